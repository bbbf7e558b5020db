"""Compiles the programs for TPUs that are not attached, and checks memory, collectives and copies.

python launch/check_tpu.py                      all cases; the rows say which are done
python launch/check_tpu.py --only 7b --minutes 20

It needs `pip install "jax[tpu]"` in an environment of its own, which brings the compiler, and no
TPU. One process at a time can use the compiler. Each row is written at once; the same command goes
on with the first missing case. Exit code 1 if a program does not fit into a chip, gathers a weight
or a cache, copies a cache, loops over rows or talks to the host.
"""

import math
import os
import pathlib
import sys
import time

# Read when jax starts. Without them libtpu asks the network which TPUs there are.
os.environ |= {
    "JAX_PLATFORMS": "cpu",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
}

from launcher import ROOT, Parser, run

from rsd_jax.errors import ConfigError
from rsd_jax.evaluation.accelerator.cells import measure_cells
from rsd_jax.evaluation.tpu.cells import cases, cell
from rsd_jax.records.files import known_rows
from rsd_jax.reporting.accelerator.compiled import compiled_table, problems


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--only", default="", help="cases whose name holds this text")
    parser.add_argument("--minutes", type=float, help="no case is begun after this time")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "runs/tpu", help="folder")
    args = parser.read()
    chosen = [case for case in cases() if args.only in case.name]
    if not chosen:
        names = "\n".join(case.name for case in cases())
        raise ConfigError(f"--only={args.only!r} is in no name of a case:\n{names}")
    chosen[0].chips.layout()  # an error here comes before anything is compiled
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "rows.jsonl"
    hashes = {case.name: case.config_hash for case in chosen}
    progress = measure_cells(
        [cell(case) for case in chosen],
        lambda part, name: hashes[name],
        path,
        deadline=time.monotonic() + 60 * args.minutes if args.minutes else math.inf,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    rows = known_rows(path)
    print(f"{compiled_table(rows).aligned()}\nrows: {path}")
    if progress.left:
        print(f"time is up, {progress.left} cases are left; run the command again")
    if found := problems(rows):
        sys.exit("\n".join(found))


if __name__ == "__main__":
    run(main)
