"""The parser of all commands and launchers; imports nothing that takes long."""

import argparse
import difflib
from collections.abc import Sequence
from typing import Any, NoReturn

from rsd_jax.errors import ConfigError


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows descriptions and examples unchanged, and the defaults of flags that have a default."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, False, "", [], ()):
            return action.help
        return super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """Reads flags: no abbreviations, lists as `--flag 1 2`, and an error is a `ConfigError`."""

    def __init__(self, description: str | None = None, **options: Any):
        """`description`: shown unchanged; `options`: further ones of argparse."""
        super().__init__(
            description=description, formatter_class=_Help, allow_abbrev=False, **options
        )

    def error(self, message: str) -> NoReturn:
        """Raises `ConfigError`."""
        raise ConfigError(f"{message}; --help lists the flags")

    def unknown(self, given: Sequence[str]) -> NoReturn:
        """Raises `ConfigError` for arguments that no flag reads; names a similar flag."""
        flag = next((each.partition("=")[0] for each in given if each.startswith("-")), "")
        similar = difflib.get_close_matches(flag, self._option_string_actions, n=1)
        advice = f" (similar: {similar[0]})" if similar else ""
        self.error(f"unrecognized arguments: {' '.join(given)}{advice}")

    def read(self) -> argparse.Namespace:
        """The flags of the process; errors as `error`."""
        return self.parse_args()
