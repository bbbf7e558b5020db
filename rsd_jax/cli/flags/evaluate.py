"""`rsd evaluate`: its flags."""

import argparse

from rsd_jax.cli.flags.command import Command
from rsd_jax.cli.flags.processes import add_process_flags, check_processes


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dry_run", action="store_true", help="lists the cells and the estimated time, and ends"
    )
    parser.add_argument(
        "--tasks",
        nargs="+",
        help="measures only these tasks; processes that share a sweep need different out_dirs",
    )
    parser.add_argument("--retry_failed", action="store_true", help="measures failed cells again")
    parser.add_argument(
        "--calibration",
        metavar="FILE",
        help="a file of rsd calibrate: its fastest method at each temperature is measured too",
    )
    add_process_flags(parser)


COMMAND = Command(
    summary="Runs an experiment: every method, tree and verifier of a configuration.",
    about="""\
Every measured cell (pair, task, method, verifier, tree, temperature, seed) becomes a row of
results.jsonl in the configuration's `out_dir`. When started again, the command measures the
missing cells. Exit code 1 if cells failed.
""",
    examples=r"""
  rsd evaluate --config experiment1:quick --dry_run
  rsd evaluate --config experiment1:quick --config.tasks.number_words.num_prompts=8
  rsd evaluate --config experiment1:llama2_7b --config.pairs.llama2_7b.target=/models/Llama-2-7b-hf
  rsd evaluate --config configs/evaluate/experiment1.py:quick
  rsd evaluate --config experiment1:quick --calibration runs/calibration.json
  rsd plot runs/experiment1-quick/results.jsonl
""",
    add_flags=_add_flags,
    check=check_processes,
    configs="evaluate",
    names=("arena", "experiment1", "experiment2", "smollm2"),
    config="experiment1:quick",
)
