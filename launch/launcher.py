"""Code of all launchers: the path to the checkout, reading of flags, handling of errors.

A launcher imports this module before the package, as pyproject.toml configures for imports.
"""

import argparse
import os
import pathlib
import runpy
import sys
from collections.abc import Callable
from typing import Any, NoReturn

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # A plain checkout works without an installation.
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # "PyTorch is missing"


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows the launcher's docstring unchanged, and the defaults of flags that have a default."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default is False:
            return action.help
        return super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """Reads the flags of a launcher.

    In all launchers argparse reads the flags, and a list is given as `--flag 1 2`. Launchers with
    a configuration also have `--config`; ml_collections reads values such as `--config.a.b=value`
    and is imported only for these launchers.
    """

    def __init__(self, description: str, config: str | None = None):
        """`config`: default of `--config`, a path in the checkout; None without `--config`."""
        super().__init__(description=description, formatter_class=_Help, allow_abbrev=False)
        self._has_config = config is not None
        if config is not None:
            self.add_argument(
                "--config",
                default=str(ROOT / config),
                metavar="FILE.py[:VARIANT]",
                help="the configuration; --config.a.b=value sets a value of it",
            )

    def error(self, message: str) -> NoReturn:
        """Raises `ConfigError`, which `run` shows."""
        from rsd_jax.errors import ConfigError

        raise ConfigError(f"{message}; --help lists the flags")

    def read(self) -> argparse.Namespace:
        """The flags; `config` is the configuration itself, a `ConfigDict`.

        Raises:
          ConfigError: a flag, the file or a value of the configuration is unknown or malformed.
        """
        if not self._has_config:
            return self.parse_args()
        args, overrides = self.parse_known_args()
        args.config = self._configuration(args.config, overrides)
        return args

    def _configuration(self, source: str, overrides: list[str]) -> Any:
        from absl import flags
        from ml_collections import config_flags

        path, _, variant = source.partition(":")
        try:
            get_config = runpy.run_path(path)["get_config"]
            config = get_config(variant) if variant else get_config()
        except KeyError:
            self.error(f"--config={source}: the file has no `get_config`")
        except (OSError, ValueError) as error:
            self.error(f"--config={source}: {error}")
        values = flags.FlagValues()
        try:
            config_flags.DEFINE_config_dict(
                "config", config, flag_values=values, sys_argv=overrides
            )
            unread = values([self.prog, *overrides])[1:]
        except flags.Error as error:
            self.error(str(error))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            # ml_collections quotes the key twice and suggests keys on a new line.
            reason = str(error).replace("\\n", " ").replace("\\", "")
            self.error(f"{' '.join(overrides)}: the configuration has no such value ({reason})")
        if unread:
            self.error(f"unrecognized arguments: {' '.join(unread)}")
        return values["config"].value


def run(main: Callable[[], None]) -> None:
    """Runs a launcher; an error that the user can correct is one line, with exit code 1."""
    from rsd_jax import errors

    try:
        main()
    except (
        errors.ConfigError,
        errors.CheckpointError,
        errors.NonFiniteLogitsError,
        errors.NonFiniteLossError,
        OSError,  # a path that cannot be read or written
    ) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted")
