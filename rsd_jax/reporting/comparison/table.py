"""Tables of one run, method by method, for terminals and for Markdown."""

from collections.abc import Sequence

from rsd_jax.records.rows import Row
from rsd_jax.reporting.metrics import BRIEF, METRICS, shown_in
from rsd_jax.reporting.table_formats import Table, number


def comparison_table(rows: Sequence[Row], *, markdown: bool = False) -> str:
    """One line per row: method, tree, and the metrics of `BRIEF`.

    Args:
      rows: rows of one run; a metric that was not measured shows as "-".
      markdown: as a Markdown table rather than aligned for a terminal.
    """
    table = comparison_cells(rows)
    return table.markdown() if markdown else table.aligned()


def comparison_cells(rows: Sequence[Row]) -> Table:
    """The table of `comparison_table`, for any format."""
    cells = [
        (
            row.variant,
            row.tree,
            *(number(row.value(name), METRICS[name].digits) for name in shown_in(BRIEF)),
        )
        for row in rows
    ]
    return Table(("method", "tree", *shown_in(BRIEF).values()), cells)
