"""Tables of one run, method by method, for terminals and for Markdown."""

from collections.abc import Sequence

from rsd_jax.records.rows import Row
from rsd_jax.reporting.table_formats import Table, number

_HEADS = ("method", "tree", "block efficiency", "MBSU", "tokens/s", "vs AR", "tokens")


def comparison_table(rows: Sequence[Row], *, markdown: bool = False) -> str:
    """One line per row: method, tree, tau, MBSU, tokens per second, ratio to AR, tokens.

    Args:
      rows: of one run; what was not measured shows as "-".
      markdown: as a Markdown table rather than aligned for a terminal.
    """
    table = comparison_cells(rows)
    return table.markdown() if markdown else table.aligned()


def comparison_cells(rows: Sequence[Row]) -> Table:
    """What `comparison_table` shows, for any format."""
    cells = [
        (
            row.method,
            row.tree,
            number(row.block_efficiency, 2),
            number(row.mbsu, 2),
            number(row.token_rate, 1),
            number(row.token_rate_ratio, 2),
            number(row.tokens, 0),
        )
        for row in rows
    ]
    return Table(_HEADS, cells)
