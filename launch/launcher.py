"""Code of all launchers: commands of `rsd` run from a plain checkout, and handling of errors.

A launcher imports this module before the package, as pyproject.toml configures for imports.
"""

import sys
from collections.abc import Callable
from typing import Any

from checkout import ROOT

from rsd_jax import errors
from rsd_jax.cli.commands import run_command
from rsd_jax.cli.flags import COMMANDS
from rsd_jax.cli.interrupts import heard
from rsd_jax.cli.parsing import Parser

__all__ = ["ROOT", "Parser", "launch", "run"]


def launch(name: str, description: str | None, **defaults: Any) -> None:
    """Runs a command of `rsd` as a launcher.

    Args:
      name: of the command.
      description: of the launcher, for its help.
      **defaults: of flags whose defaults in the checkout are others.
    """
    command = COMMANDS[name]

    def main() -> None:
        parser = Parser(description)
        command.add_to(parser)
        parser.set_defaults(**defaults)
        args, unread = parser.parse_known_args()
        command.complete(parser, args, unread)
        run_command(name, args)

    run(main)


def run(main: Callable[[], None]) -> None:
    """Runs a launcher; an error that the user can correct is one line, with exit code 1."""
    try:
        with heard():
            main()
    except (
        errors.ConfigError,
        errors.CheckpointError,
        errors.NonFiniteLogitsError,
        errors.NonFiniteLossError,
        OSError,  # a path that cannot be read or written
    ) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt as stop:
        sys.exit("; ".join(["interrupted", *map(str, stop.args)]))
