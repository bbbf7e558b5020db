"""The report's section on acceptance: by position in the block, and by category of the prompts."""

from collections.abc import Sequence

import numpy as np

from rsd_jax.records.rows import Row
from rsd_jax.reporting.figures import style_of
from rsd_jax.reporting.page import Output, Section
from rsd_jax.reporting.panels import Panel, Structure, panels_of
from rsd_jax.reporting.table_formats import Table, number, with_interval

MOST_POSITIONS = 10


def sections(rows: Sequence[Row], output: Output) -> list[Section]:
    """One section, if rows have counts of accepted nodes; it has no figures.

    Raises:
      ConfigError: a panel has rows of several runs.
    """
    panels = panels_of(rows)
    by_position = [positions_table(panel) for panel in panels]
    by_category = [categories_table(panel) for panel in panels]
    section = Section(
        "Acceptance by position and by category",
        text="Position d: the fraction of blocks in which at least d drafted tokens are accepted. "
        f"Positions after {MOST_POSITIONS} are in the rows only. Categories: block efficiency.",
        tables=[table for table in by_category if table.rows],
        details=[table for table in by_position if table.rows],
    )
    return [section] if section.tables or section.details else []


def positions_table(panel: Panel) -> Table:
    """A line per structure: by position, the fraction of blocks that accept a token there.

    Args:
      panel: its structures' rows may lack the counts; such structures have no line.
    """
    found = [(one, depths) for one in panel.structures if (depths := _depths(one)) is not None]
    most = min(MOST_POSITIONS, max((len(depths) - 1 for _, depths in found), default=0))
    lines = []
    for one, depths in found:
        reached = depths[::-1].cumsum()[::-1] / depths.sum()
        shown = [number(value, 3) for value in reached[1 : most + 1]]
        shown += [""] * (most - len(shown))
        lines.append([style_of(one.variant).label, one.tree, str(int(depths.sum())), *shown])
    heads = ("method", "tree", "blocks", *(str(position + 1) for position in range(most)))
    return Table(heads, lines, title=f"{panel.label}: acceptance by position")


def categories_table(panel: Panel) -> Table:
    """A line per structure with the block efficiency of each category.

    Args:
      panel: structures whose rows have no categories have no line.
    """
    found = [(one, each) for one in panel.structures if (each := _by_category(one))]
    names = list(dict.fromkeys(name for _, each in found for name in each))
    lines = [
        [
            style_of(one.variant).label,
            one.tree,
            *(with_interval(*each[name], 2) if name in each else "-" for name in names),
        ]
        for one, each in found
    ]
    title = f"{panel.label}: block efficiency by category"
    return Table(("method", "tree", *names), lines, title=title)


def _depths(structure: Structure) -> np.ndarray | None:
    """int64[L + 1], blocks by accepted nodes over all seeds; None if no block was counted."""
    counts = [row.value("accepted_depths") for row in structure.rows]
    counted = np.asarray([each for each in counts if each], np.int64)
    return counted.sum(axis=0) if counted.sum() else None


def _by_category(
    structure: Structure,
) -> dict[str, tuple[float, tuple[float, float] | None]]:
    """Block efficiency and its interval by category; means over the seeds, as in `Structure`."""
    rows = [row.categories for row in structure.rows if row.categories is not None]
    names = dict.fromkeys(name for part in rows for name in part.category_prompts)
    found = {}
    for name in names:
        own = [part for part in rows if name in part.category_prompts]
        ends = [part.category_intervals[name] for part in own if name in part.category_intervals]
        middle = float(np.mean([part.category_block_efficiency[name] for part in own]))
        found[name] = (middle, tuple(np.mean(ends, axis=0).tolist()) if ends else None)
    return found
