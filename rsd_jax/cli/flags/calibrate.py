"""`rsd calibrate`: its flags."""

import argparse
import pathlib

from rsd_jax.cli.flags.command import Command
from rsd_jax.cli.flags.decoding import add_models, check_models
from rsd_jax.cli.flags.measuring import add_methods, add_prompts, check_prompts

METHODS = (
    "sd:1 sd:2 sd:3 sd:4 sd:6 sd:8 sd:4+4 rsd_s:2x2 rsd_s:2x4 rsd_s:4x4 rsd_s:4x4+4 "
    "rsd_c:2-1 rsd_c:2-2-1-1 dynamic:6@0.4 dynamic:6@0.4+4 lookup:4 lookup:8"
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
    parser.add_argument(
        "--timed_rows", type=int, default=1, help="rows of the blocks that are timed"
    )
    parser.add_argument("--repeats", type=int, default=5, help="how often a block is timed")
    parser.add_argument(
        "--against",
        type=pathlib.Path,
        metavar="ROWS",
        help="measures nothing; prints what the calibration --out predicted beside these rows",
    )
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        default=pathlib.Path("runs/calibration.json"),
        help="the calibration; an older one is replaced",
    )


def _check(args: argparse.Namespace) -> None:
    check_models(args)
    check_prompts(args)


COMMAND = Command(
    summary="Finds the fastest method and tree for a pair, a text and this machine.",
    about="""\
Decodes prompts with a few wide trees, computes what each method would have produced, and times
a block of each. The table shows expected tokens per second of one row; the file is for
--method auto of other commands. The machine should be idle.
""",
    examples=r"""
  rsd calibrate
  rsd calibrate --target DIR --draft DIR --prompts prompts.jsonl --template chat
  rsd calibrate --methods sd:2 sd:4 rsd_s:4x4 rsd_s:4x4:coupling --temperatures 0.7
  rsd calibrate --against runs/experiment1/results.jsonl
  rsd generate --prompt 'import os' --method auto --calibration runs/calibration.json
""",
    add_flags=_add_flags,
    check=_check,
)
