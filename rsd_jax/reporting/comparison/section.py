"""What the report has on decoding outside of the known experiments: bars and a table by panel."""

import dataclasses
from collections.abc import Sequence

from rsd_jax.records.rows import Row
from rsd_jax.reporting import facts
from rsd_jax.reporting.comparison.bars import plot_comparison
from rsd_jax.reporting.comparison.table import comparison_cells
from rsd_jax.reporting.experiment.definitions import EXPERIMENTS
from rsd_jax.reporting.page import Output, Picture, Section
from rsd_jax.reporting.panels import panels_of


def sections(rows: Sequence[Row], output: Output) -> list[Section]:
    """One section, if there are such rows.

    Raises:
      ConfigError: runs are mixed in a panel.
    """
    panels = [p for p in panels_of(rows) if p.structures and p.experiment not in EXPERIMENTS]
    files, pictures, tables = [], [], []
    for number, panel in enumerate(panels, start=1):
        tables.append(dataclasses.replace(comparison_cells(panel.rows), title=panel.label))
        if all(row.value("block_efficiency") is None for row in panel.rows):
            continue
        stem = output.folder / f"comparison_{number}"
        files += [plot_comparison(panel.rows, f"{stem}.{kind}") for kind in output.formats]
        drawn = plot_comparison(panel.rows, f"{stem}.svg")
        pictures.append(Picture(drawn.read_bytes(), "svg+xml", panel.label))
        if "svg" not in output.formats:
            drawn.unlink()
    section = Section(
        "Comparison of methods",
        text="Rows of no known experiment: one bar per row, nothing is picked.",
        notices=[text for panel in panels for text in facts.notices(panel)],
        pictures=pictures,
        tables=tables,
        files=files,
    )
    return [section] if panels else []
