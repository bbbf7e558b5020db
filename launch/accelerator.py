"""Measures everything that has to be measured on a GPU or TPU, in order of worth.

bash launch/accelerator.sh                      all parts
bash launch/accelerator.sh table --minutes 15   one part, for 15 minutes
bash launch/accelerator.sh train --drafts DIR   trains a draft from `rsd distill --stage=pack`
bash launch/accelerator.sh --rehearse           tiny shapes, on any machine: its times mean nothing

The parts are check, table, peers, curves, choices, profile and train. Each row is written at once,
the measurement stops between two cells when the time is up, and the same command goes on with the
first missing cell. Training stops between two steps. Nothing is installed.
"""

import functools
import math
import os
import pathlib
import sys
import time

from launcher import ROOT, Parser, run

from rsd_jax.distillation.packed import read_packed
from rsd_jax.distillation.packed_training import training_cells
from rsd_jax.errors import ConfigError
from rsd_jax.evaluation.accelerator.run import PARTS, Run, rows_path, run_parts
from rsd_jax.evaluation.accelerator.settings import REHEARSAL, Settings
from rsd_jax.records.files import known_rows
from rsd_jax.reporting.accelerator.tables import summary
from rsd_jax.testing import fixed_seeds

_RECORDS = ROOT / "tests/fixtures"


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}; or all")
    parser.add_argument("--minutes", type=float, help="no cell is begun after this time")
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        help="folder of the results; runs/accelerator if not given, or runs/rehearsal",
    )
    parser.add_argument(
        "--drafts",
        nargs="+",
        type=pathlib.Path,
        default=[],
        metavar="DIR",
        help="folders with drafts for the part train; without any, the part has nothing to do",
    )
    parser.add_argument("--rehearse", action="store_true", help="tiny shapes, few cells")
    args = parser.read()
    if args.minutes is not None and not args.minutes > 0:
        raise ConfigError(f"--minutes={args.minutes:g} must be above 0")
    if "train" in args.parts and not args.drafts:
        raise ConfigError("the part train needs --drafts, folders of `rsd distill --stage=pack`")
    for folder in args.drafts:
        read_packed(folder)  # an error here comes before measuring
    out = args.out or ROOT / "runs" / ("rehearsal" if args.rehearse else "accelerator")
    path = rows_path(out)
    measurement = Run(
        parts=tuple(args.parts or PARTS),
        settings=REHEARSAL if args.rehearse else Settings(),
        reference=functools.partial(
            fixed_seeds.reference,
            _RECORDS / "fixed_seed_tokens.json",
            _RECORDS / "fixed_seed_laws.json",
        ),
        training=functools.partial(training_cells, folders=args.drafts, out=out),
        path=path,
        deadline=time.time() + 60 * args.minutes if args.minutes else math.inf,
    )
    out.mkdir(parents=True, exist_ok=True)  # an error here comes before measuring
    # Compiled programs are kept outside of the results, which are few files.
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache/jax"))
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.92")
    problems = run_parts(measurement)
    text = summary(known_rows(path))
    (out / "summary.txt").write_text(text, encoding="utf-8")
    print(f"{text}\nrows: {path}")
    if problems:
        sys.exit("\n".join(problems))


if __name__ == "__main__":
    run(main)
