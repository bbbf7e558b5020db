"""Draws result rows: figures as in the papers, tables, and one page with all of them.

python launch/plot.py RESULTS.jsonl [MORE.jsonl ...] --out_dir=DIRECTORY

Needs only the rows; JAX is not imported and need not be installed.
"""

import argparse
import pathlib
import sys
import warnings

from launcher import Parser, run

from rsd_jax.errors import ConfigError
from rsd_jax.records.files import read_rows
from rsd_jax.records.rows import Row
from rsd_jax.reporting.experiment.selection import CHOICES
from rsd_jax.reporting.figures import FORMATS
from rsd_jax.reporting.page import Output
from rsd_jax.reporting.report import write_report


def _arguments() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("rows", type=pathlib.Path, nargs="+", help="files of result rows")
    parser.add_argument(
        "--out_dir", type=pathlib.Path, help="default: the folder `report` next to the first file"
    )
    parser.add_argument(
        "--best_by",
        default=CHOICES[0],
        help=f"metric that the best structure is picked by: {', '.join(CHOICES)}",
    )
    parser.add_argument(
        "--formats", nargs="+", default=["png", "pdf"], help=f"figure formats: {', '.join(FORMATS)}"
    )
    parser.add_argument(
        "--config_hash", nargs="+", help="draws only rows of these runs, by config_hash"
    )
    parser.add_argument("--title", default="rsd_jax: results", help="title of the page")
    return parser.read()


def _of_runs(rows: list[Row], hashes: list[str] | None) -> list[Row]:
    if hashes is None:
        return rows
    known = sorted({row.config_hash for row in rows if row.config_hash is not None})
    for name in hashes:
        if name not in known:
            raise ConfigError(f"--config_hash={name}: no row has this hash; rows have {known}")
    return [row for row in rows if row.config_hash in hashes]


def main() -> None:
    args = _arguments()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rows = [row for path in args.rows for row in read_rows(path)]
    for warning in caught:
        print(f"warning: {warning.message}", file=sys.stderr)
    output = Output(
        folder=args.out_dir or args.rows[0].parent / "report",
        formats=tuple(dict.fromkeys(args.formats)),
        best_by=args.best_by,
        title=args.title,
    )
    paths = write_report(_of_runs(rows, args.config_hash), output, args.rows)
    print(f"{len(rows)} rows read; written:")
    for path in paths:
        print(f"  {path}")


if __name__ == "__main__":
    run(main)
