"""The report's section on decoding outside of the known experiments: bars and a table per panel."""

import dataclasses
from collections.abc import Sequence

from rsd_jax.records.rows import Row
from rsd_jax.reporting import facts
from rsd_jax.reporting.comparison.bars import comparison_figure
from rsd_jax.reporting.comparison.table import comparison_cells
from rsd_jax.reporting.experiment.definitions import EXPERIMENTS
from rsd_jax.reporting.page import Output, Section
from rsd_jax.reporting.panels import panels_of

_MOST_BARS = 40  # with more, none can be read; the table lists them all


def sections(rows: Sequence[Row], output: Output) -> list[Section]:
    """One section, if there are such rows.

    Raises:
      ConfigError: a panel has rows of several runs.
    """
    panels = [p for p in panels_of(rows) if p.structures and p.experiment not in EXPERIMENTS]
    drawn = [
        output.draw(comparison_figure(panel.rows), f"comparison_{number}", panel.label)
        for number, panel in enumerate(panels, start=1)
        if any(row.value("block_efficiency") is not None for row in panel.rows)
        and len(panel.rows) <= _MOST_BARS
    ]
    section = Section(
        "Comparison of methods",
        text="Rows outside of the known experiments: one bar per row, all rows are shown.",
        notices=[text for panel in panels for text in facts.notices(panel)],
        pictures=[picture for picture, _ in drawn],
        tables=[dataclasses.replace(comparison_cells(p.rows), title=p.label) for p in panels],
        files=[path for _, paths in drawn for path in paths],
    )
    return [section] if panels else []
