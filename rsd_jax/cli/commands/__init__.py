"""The work of each command: a module of the command's name with a function `run(args)`."""

import argparse
import importlib


def run_command(name: str, args: argparse.Namespace) -> None:
    """Imports the module of a command and runs it.

    Args:
      name: of the command.
      args: its flags, after `Command.complete`.

    Raises:
      ConfigError, CheckpointError, NonFiniteLogitsError, NonFiniteLossError, OSError: for the user.
      Interrupted: the user pressed Ctrl-C, and work is kept.
      SystemExit: the command ran, and something that it measured or checked failed.
    """
    importlib.import_module(f"{__name__}.{name}").run(args)
