"""One of several processes that run a command together: joins them, and says what went wrong."""

import argparse
import contextlib
import os
import sys
import threading
import warnings
from collections.abc import Iterator

import jax

from rsd_jax.core.processes import is_writer
from rsd_jax.errors import ConfigError

_LONGER = 60  # seconds that JAX would wait after our own message; JAX ends with a trace in C++
_END = 60  # seconds that a process waits for the others when it ends
_NO_MEMORY = "RESOURCE_EXHAUSTED"
BAD_START = 2
"""Exit code of a process that the others did not join."""


@contextlib.contextmanager
def together(args: argparse.Namespace) -> Iterator[None]:
    """Joins the other processes, and runs the block as one of them.

    Only the first process prints and warns.

    Args:
      args: with the flags of `add_process_flags`.

    Raises:
      ConfigError: JAX finds no other processes.
      ConnectionError: another process ended while the block ran.
    """
    _join(args)
    with contextlib.ExitStack() as stack:
        if not is_writer():
            nowhere = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
            stack.enter_context(warnings.catch_warnings(action="ignore"))
        try:
            yield
        except jax.errors.JaxRuntimeError as error:
            if _NO_MEMORY in str(error):
                raise
            reason = str(error).partition("\n")[0][:200]
            raise ConnectionError(
                f"another process of the run has ended or cannot be reached ({reason}); what is "
                "finished is kept, start all processes again"
            ) from error


def _join(args: argparse.Namespace) -> None:
    patience = threading.Timer(args.start_timeout, _give_up, [args])
    patience.daemon = True
    patience.start()
    try:
        jax.distributed.initialize(
            coordinator_address=args.coordinator,
            num_processes=args.processes,
            process_id=args.process_id,
            initialization_timeout=args.start_timeout + _LONGER,
            shutdown_timeout_seconds=_END,
        )
    except ValueError as error:
        raise ConfigError(
            f"--distributed: JAX finds no other processes here ({error}); give --coordinator, "
            "--processes and --process_id"
        ) from None
    except RuntimeError as error:
        raise ConfigError(f"--distributed: the processes cannot join ({error})") from None
    finally:
        patience.cancel()


def _give_up(args: argparse.Namespace) -> None:
    """Ends the process in one line; JAX itself cannot be interrupted while it waits."""
    expected = "all processes" if args.processes is None else f"all {args.processes} processes"
    where = "the coordinator" if args.coordinator is None else args.coordinator
    print(
        f"error: {expected} have not joined within {args.start_timeout} s; check that the command "
        f"runs on every host and that each reaches {where}, or raise --start_timeout",
        file=sys.stderr,
        flush=True,
    )
    os._exit(BAD_START)
