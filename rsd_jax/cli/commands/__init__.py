"""The work of each command: a module of the command's name with a function `run(args)`."""

import argparse
import importlib


def run_command(name: str, args: argparse.Namespace) -> None:
    """Imports the module of a command and runs it, with other processes if its flags say so.

    Args:
      name: of the command.
      args: its flags, after `Command.complete`.

    Raises:
      ConfigError, CheckpointError, NonFiniteLogitsError, NonFiniteLossError, OSError: for the user.
      Interrupted: the user pressed Ctrl-C, and work is kept.
      SystemExit: the command ran, and something that it measured or checked failed.
    """
    module = importlib.import_module(f"{__name__}.{name}")
    if not getattr(args, "distributed", False):
        module.run(args)
        return
    from rsd_jax.cli.processes import together  # imports JAX

    with together(args):
        module.run(args)
