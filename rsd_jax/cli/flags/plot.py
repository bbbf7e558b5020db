"""`rsd plot`: its flags."""

import argparse
import pathlib

from rsd_jax.cli import choices
from rsd_jax.cli.flags.command import Command


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("rows", type=pathlib.Path, nargs="+", help="files of result rows")
    parser.add_argument(
        "--out_dir", type=pathlib.Path, help="default: the folder `report` next to the first file"
    )
    parser.add_argument(
        "--best_by",
        default=choices.BEST_BY[0],
        help=f"metric that the best structure is picked by: {', '.join(choices.BEST_BY)}",
    )
    parser.add_argument(
        "--formats",
        nargs="+",
        default=["png", "pdf"],
        help=f"figure formats: {', '.join(choices.FORMATS)}",
    )
    parser.add_argument(
        "--config_hash", nargs="+", help="draws only rows of these runs, by config_hash"
    )
    parser.add_argument("--title", default="rsd_jax: results", help="title of the page")


COMMAND = Command(
    summary="Draws result rows: figures as in the papers, tables, and one page with all of them.",
    about="Needs only the rows; JAX is not imported and need not be installed.",
    examples=r"""
  rsd plot runs/experiment1-quick/results.jsonl
  rsd plot one.jsonl two.jsonl --out_dir report --formats svg --best_by token_rate_ratio
""",
    add_flags=_add_flags,
)
