"""The phases of a block as a table."""

from collections.abc import Sequence

from rsd_jax.evaluation.timing import BlockTimes
from rsd_jax.records.rows import Row
from rsd_jax.reporting.table_formats import Table, number

_PHASE_HEADS = (
    "method",
    "tree",
    "prefill",
    "draft",
    "score",
    "verify",
    "commit",
    "sum",
    "block",
    "forwards",
    "outside",
    "realised",
    "compile s",
)


def phase_table(timed: Sequence[tuple[Row, BlockTimes]], *, markdown: bool = False) -> str:
    """One line per method: milliseconds of each phase, of their sum and of the fused block.

    "forwards" is the time of a block's model passes without the rest, "outside" is the share of
    the fused block that is not spent in model passes, "realised" is (t_AR / t_block)(1 + r L).

    Args:
      timed: rows, each with its times.
      markdown: as a Markdown table rather than aligned for a terminal.
    """
    cells = []
    for row, times in timed:
        phases = (
            times.prefill,
            times.draft,
            times.score,
            times.verify,
            times.commit,
            times.phase_sum,
            times.block,
        )
        cells.append(
            (
                row.variant,
                row.tree,
                *(f"{1e3 * seconds:.2f}" for seconds in phases),
                "-" if times.forwards is None else f"{1e3 * times.forwards:.2f}",
                "-" if times.outside is None else f"{times.outside:.0%}",
                number(row.value("realised_fraction"), 2),
                f"{times.compile:.1f}",
            )
        )
    table = Table(_PHASE_HEADS, cells)
    return table.markdown() if markdown else table.aligned()
