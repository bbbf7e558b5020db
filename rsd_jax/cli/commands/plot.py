"""`rsd plot`: figures, tables and a page from result rows. JAX is not imported."""

import argparse
import sys
import warnings

from rsd_jax.errors import ConfigError
from rsd_jax.records.files import read_rows
from rsd_jax.records.rows import Row
from rsd_jax.reporting.page import Output
from rsd_jax.reporting.report import write_report


def _of_runs(rows: list[Row], hashes: list[str] | None) -> list[Row]:
    if hashes is None:
        return rows
    known = sorted({row.config_hash for row in rows if row.config_hash is not None})
    for name in hashes:
        if name not in known:
            raise ConfigError(f"--config_hash={name}: no row has this hash; rows have {known}")
    return [row for row in rows if row.config_hash in hashes]


def run(args: argparse.Namespace) -> None:
    """Reads the rows and writes the report."""
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
