"""The command `rsd`: reads the flags, runs a command; errors become lines and exit codes."""

import argparse
import io
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any

from rsd_jax.cli.commands import run_command
from rsd_jax.cli.flags import COMMANDS
from rsd_jax.cli.interrupts import heard
from rsd_jax.cli.parsing import Parser
from rsd_jax.cli.programs import keep_programs
from rsd_jax.errors import (
    CheckpointError,
    ConfigError,
    NonFiniteLogitsError,
    NonFiniteLossError,
)
from rsd_jax.version import __version__

BAD_INPUT, FAILED, INTERRUPTED = 2, 1, 130
"""Exit codes; 130 is what a shell gives a program that Ctrl-C ended."""

_TRACEBACK = "--traceback"
_NO_MEMORY = "RESOURCE_EXHAUSTED"  # in XLA's errors
_ABOUT = "Lossless tree-based speculative decoding of Llama-class models in JAX."
_EXAMPLES = """examples:
  rsd check
  rsd generate --prompt 'import os' --show accepted
  rsd evaluate --config experiment1:quick --dry_run
  rsd generate --help

exit codes: 0 done; 1 something that was measured or checked failed; 2 the input cannot be used;
130 stopped by Ctrl-C."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `rsd`.

    Args:
      arguments: of the command line, without the name of the program; None for the process's.

    Returns:
      the exit code.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with heard(), warnings.catch_warnings():
            warnings.showwarning = _show_warning
            _run(given)
            sys.stdout.flush()  # a closed pipe is noticed here, not when Python ends
    except SystemExit as end:  # of argparse, and of commands that say what failed
        return _exit_code(end)
    except BrokenPipeError:
        # The reader, such as `head`, wants no more; Python would complain again when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt as stop:
        _say("; ".join(["interrupted", *map(str, stop.args)]))
        return INTERRUPTED
    except (ConfigError, CheckpointError, OSError) as error:
        return _error(error, given, BAD_INPUT)
    except (NonFiniteLogitsError, NonFiniteLossError) as error:
        return _error(error, given, FAILED)
    except RuntimeError as error:
        if _NO_MEMORY not in str(error):
            raise
        reason = str(error).partition("\n")[0]
        short = MemoryError(
            f"the device has too little memory ({reason}); take a smaller model or tree, bfloat16, "
            "shorter prompts or smaller batches"
        )
        return _error(short.with_traceback(error.__traceback__), given, FAILED)
    return 0


def parser() -> Parser:
    """The parser of all commands; `command` and `parser` of the namespace are the command's."""
    whole = Parser(_ABOUT, prog="rsd", epilog=_EXAMPLES)
    whole.add_argument("--version", action="version", version=f"rsd_jax {__version__}")
    _add_completion(whole)
    commands = whole.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name, command in COMMANDS.items():
        own = commands.add_parser(
            name, help=command.summary, description=command.description, epilog=command.epilog
        )
        own.set_defaults(parser=own)
        command.add_to(own)
        own.add_argument(
            _TRACEBACK, action="store_true", help="shows where in the code an error arose"
        )
    return whole


def _run(arguments: list[str]) -> None:
    whole = parser()
    if not arguments:
        print(whole.format_help(), end="", file=sys.stderr)
        sys.exit(BAD_INPUT)
    args, unread = whole.parse_known_args(arguments)
    if args.command is None:
        whole.unknown(unread)
    command = COMMANDS[args.command]
    _prepare(keeps_programs=command.keeps_programs)
    command.complete(args.parser, args, unread)
    run_command(args.command, args)


def _prepare(*, keeps_programs: bool) -> None:
    """Sets what libraries read from the environment, where the user has not."""
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # "PyTorch is missing"
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # for terminals that cannot show every character
    if keeps_programs:
        keep_programs()


def _add_completion(whole: Parser) -> None:
    """`--print-completion`, by shtab, which is imported when it is asked for."""

    class Print(argparse.Action):
        def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> None:
            try:
                import shtab
            except ImportError:
                raise ConfigError("--print-completion needs shtab: pip install shtab") from None
            print(shtab.complete(parser, values))
            parser.exit()

    whole.add_argument(
        "--print-completion",
        action=Print,
        choices=("bash", "zsh", "tcsh"),
        metavar="SHELL",
        help="prints the completion of a shell: bash, zsh or tcsh",
    )


def _exit_code(end: SystemExit) -> int:
    if isinstance(end.code, str):
        _say(end.code)
        return FAILED
    return end.code or 0


def _error(error: Exception, arguments: list[str], code: int) -> int:
    """Shows an error in one line, or whole if the user wants that."""
    if _TRACEBACK in arguments:
        traceback.print_exception(error)
    else:
        _say(f"error: {' '.join(str(error).split())}")
    return code


def _show_warning(message: Any, category: Any, *place: Any, **more: Any) -> None:
    """A warning in one line, without the place in the code that gave it."""
    _say(f"warning: {' '.join(str(message).split())}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
