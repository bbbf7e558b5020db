"""`rsd calibrate`: its flags."""

import argparse
import pathlib

from rsd_jax.cli.choices import FORMATS
from rsd_jax.cli.flags.command import Command
from rsd_jax.cli.flags.decoding import add_models, check_models
from rsd_jax.cli.flags.measuring import add_methods, add_prompts, check_prompts
from rsd_jax.errors import ConfigError

METHODS = (
    "sd:1 sd:2 sd:3 sd:4 sd:6 sd:8 sd:4+4 rsd_s:2x2 rsd_s:2x4 rsd_s:4x4 rsd_s:4x4+4 "
    "rsd_c:2-1 rsd_c:2-2-1-1 dynamic:6@0.4 dynamic:6@0.4+4 dyspec:1x6@costs lookup:4 "
    "lookup:8"
)
WITHOUT_DRAFT = "lookup:2 lookup:4 lookup:8"


def _add_flags(parser: argparse.ArgumentParser) -> None:
    add_models(parser)
    group = parser.add_argument_group("what is calibrated")
    add_methods(group, f"{METHODS}; without a draft {WITHOUT_DRAFT}")
    group.add_argument(
        "--temperatures", type=float, nargs="+", default=[0.0, 1.0], help="of the target"
    )
    group.add_argument("--top_k", type=int, metavar="K", help="keeps the k most likely tokens")
    group.add_argument("--top_p", type=float, metavar="P", default=1.0, help="1 keeps every token")
    group = parser.add_argument_group("on which text")
    add_prompts(group)
    group.add_argument("--max_new_tokens", type=int, default=96, help="limit per prompt")
    group.add_argument("--batch_size", type=int, default=8, help="prompts decoded together")
    group = parser.add_argument_group("what is timed")
    group.add_argument("--timed_rows", type=int, default=1, help="rows of a timed batch")
    group.add_argument(
        "--timed_batches", type=int, default=8, help="batches, spread over the prompts by length"
    )
    group.add_argument("--repeats", type=int, default=3, help="how often each batch is timed")
    parser.add_argument(
        "--against",
        type=pathlib.Path,
        nargs="+",
        metavar="ROWS",
        help="measures nothing; prints what the calibration --out predicted beside these rows, and "
        "how near its choice comes to the fastest method of each task",
    )
    parser.add_argument(
        "--figure",
        type=pathlib.Path,
        metavar="FILE",
        help="with --against: draws the predictions beside the measurements (.png, .pdf or .svg)",
    )
    parser.add_argument(
        "--of_task",
        type=_of_task,
        nargs="+",
        default=[],
        metavar="TASK=FILE",
        help="with --against: calibrations of several kinds of text in place of --out, each held "
        "against the rows of its task",
    )
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        default=pathlib.Path("runs/calibration.json"),
        help="the calibration; an older one is replaced",
    )


def _of_task(given: str) -> tuple[str, pathlib.Path]:
    task, equals, path = given.partition("=")
    if not (task and equals and path):
        raise argparse.ArgumentTypeError(f"{given!r} must be TASK=FILE")
    return task, pathlib.Path(path)


def _check(args: argparse.Namespace) -> None:
    check_models(args)
    check_prompts(args)
    if args.figure and not args.against:
        raise ConfigError("--figure draws what --against compares; give --against ROWS")
    if args.of_task and not args.against:
        raise ConfigError("--of_task names what --against compares; give --against ROWS")
    if len({task for task, _ in args.of_task}) < len(args.of_task):
        raise ConfigError("--of_task names a task twice")
    if args.figure and args.figure.suffix.removeprefix(".") not in ("", *FORMATS):
        raise ConfigError(f"--figure {args.figure}: write .png, .pdf or .svg at its end")


COMMAND = Command(
    summary="Finds the fastest method and tree for a pair, a text and this machine.",
    about="""\
Decodes prompts with a few wide trees, computes what each method would have produced, and times
prompts and blocks of each. The table shows expected tokens per second of one row, its prompt
included; the file is for --method auto of other commands. The machine should be idle.

In trees with a threshold, @costs stands for the threshold above which a node is worth its seconds
on this machine: dyspec:1x6@costs.
""",
    examples=r"""
  rsd calibrate
  rsd calibrate --target DIR --draft DIR --prompts prompts.jsonl --template chat
  rsd calibrate --methods sd:2 sd:4 rsd_s:4x4 rsd_s:4x4:coupling --temperatures 0.7
  rsd calibrate --methods dynamic:6@0.4 dyspec:1x6@costs beam:2x4@costs
  rsd calibrate --against runs/experiment1/results.jsonl --figure predictions.png
  rsd calibrate --against rows.jsonl --of_task docstrings=docstrings.json completion=completion.json
  rsd generate --prompt 'import os' --method auto --calibration runs/calibration.json
""",
    add_flags=_add_flags,
    check=_check,
)
