"""Time of a draft pass with skipped sub-layers against the bytes that the pass reads."""

import dataclasses
from collections import defaultdict
from collections.abc import Sequence

from rsd_jax.records.rows import Row
from rsd_jax.reporting.names import pretty
from rsd_jax.reporting.table_formats import Table, number

NEAR = 0.15
"""Half width, as a fraction, of the band around the line on which time follows memory traffic."""


@dataclasses.dataclass(frozen=True)
class SkipCosts:
    """Passes of one target.

    Attributes:
      label: target, dtype, machine, batch and tokens of context.
      passes: rows, most bytes first.
    """

    label: str
    passes: tuple[Row, ...]


def skip_costs_of(rows: Sequence[Row]) -> list[SkipCosts]:
    """Groups rows by run; of repeated rows of a pass the last one counts."""
    grouped: dict[tuple, dict[str, Row]] = defaultdict(dict)
    for row in rows:
        if row.kind == "skipping" and row.status == "ok":
            machine = row.hardware.cpu if row.hardware.backend == "cpu" else row.hardware.device
            label = f"{pretty(row.pair)}, {row.dtype}, {machine}"
            if row.batch_size != 1:
                label += f", batch {row.batch_size}"
            label += f", {row.context_length} tokens"
            grouped[label, row.config_hash][row.tree] = row
    return [
        SkipCosts(
            label, tuple(sorted(by_set.values(), key=lambda row: -row.value("kept_fraction")))
        )
        for (label, _), by_set in grouped.items()
    ]


def off_the_line(row: Row) -> float:
    """Fraction of time over fraction of bytes, minus 1: 0.1 is 10 % above the straight line."""
    return row.value("t_draft_ratio") / row.value("kept_fraction") - 1.0


def skip_cost_table(costs: SkipCosts) -> Table:
    """One line per pass."""
    heads = ("sub-layers kept", "bytes read", "ms", "time", "off the line")
    lines = [
        (
            row.tree,
            number(row.value("kept_fraction"), 3),
            number(1e3 * row.value("t_draft"), 3),
            number(row.value("t_draft_ratio"), 3),
            f"{off_the_line(row):+.1%}",
        )
        for row in costs.passes
    ]
    return Table(heads, lines, frozenset({0}), costs.label)
