"""How much of the distance to the optimum each verifier closes: a table and a figure."""

import dataclasses
import statistics
from collections.abc import Sequence
from typing import Any

from rsd_jax.records.expected import BASE
from rsd_jax.records.metrics import Interval
from rsd_jax.records.optimum import Optimum
from rsd_jax.reporting import figures as base
from rsd_jax.reporting.expected.contests import Contest, Measured, in_order, style
from rsd_jax.reporting.expected.figure import (
    draw_line,
    driver_of,
    finish_panel,
    legend_handle,
)
from rsd_jax.reporting.expected.tables import ordered, place_of
from rsd_jax.reporting.panels import Structure
from rsd_jax.reporting.table_formats import Table, number

FLOOR = -0.15
"""Verifiers that close less, such as match, are outside of the panels."""

_COLUMNS = 3
_PANEL_SIZE = (3.6, 2.4)


def optimum_table(contest: Contest) -> Table:
    """A line per row with an optimum: acceptance below the root, and what is closed."""
    found = [one for one in ordered(contest) if _parts(one)]
    names = in_order(name for one in found for part in _parts(one) for name in part.root_acceptance)
    lines = []
    for one in found:
        parts, shares = _parts(one), closed(one)
        accepted = [f"{_mean_acceptance(parts, name)}{_beside(shares.get(name))}" for name in names]
        optimum = statistics.fmean(part.optimum for part in parts)
        blocks = sum(part.optimum_blocks for part in parts)
        lines.append([*place_of(one), str(blocks), number(optimum, 3), *accepted])
    heads = ("method", "tree", "T", "contexts of", "blocks", "optimum")
    title = (
        f"{contest.label}: probability that a child of the root is accepted, and part of the "
        f"distance from {style(BASE).label} to the optimum that is closed"
    )
    labels = [style(name).label for name in names]
    return Table((*heads, *labels), lines, frozenset({0, 1, 2, 3}), title)


def closed(structure: Structure) -> dict[str, Measured]:
    """By verifier, the part of the distance to the optimum that it closes; {} without a distance.

    Means over seeds of values and of intervals' ends.
    """
    parts = [part for part in _parts(structure) if part.distance_left]
    left = [part.distance_left or {} for part in parts]
    found: dict[str, Measured] = {}
    for name in in_order(set.intersection(*map(set, left)) if left else ()):
        ends = [(part.distance_left_intervals or {}).get(name) for part in parts]
        found[name] = 1.0 - statistics.fmean(each[name] for each in left), _interval(ends)
    return found


def optimum_figure(contest: Contest, caption: str) -> Any:
    """Draws a panel for each temperature: what each verifier closes, by method and siblings.

    The contexts of a method are those of one verifier, see `driver_of`. Of several trees of one
    method with equally many children of the root, the first is drawn.

    Args:
      contest: with a distance in some row.
      caption: text below the legend; wrapped here.

    Returns:
      a matplotlib figure, for `figures.save`.
    """
    panels = _panels(contest)
    columns = min(_COLUMNS, len(panels))
    lines = base.wrapped(caption, _PANEL_SIZE[0] * columns)
    figure, grid = base.new_figure(-(-len(panels) // columns), columns, _PANEL_SIZE, len(lines))
    figure.subplots_adjust(wspace=0.3)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for place, (axes, temperature) in enumerate(zip(grid.flat, sorted(panels), strict=False)):
        _panel(axes, panels[temperature])
        axes.set_title(f"T = {temperature:g}", fontsize=9.5, fontweight="bold", loc="left", pad=5)
        if place % columns == 0:
            axes.set_ylabel("closed (%)", fontsize=9, labelpad=3)
    drawn = in_order(
        name
        for by_label in panels.values()
        for one in by_label.values()
        for name, (share, _) in closed(one).items()
        if share > FLOOR and name != BASE
    )
    base.finish(figure, [legend_handle(name) for name in drawn], lines)
    return figure


def has_distance(contest: Contest) -> bool:
    """Whether there is something for `optimum_figure` to draw."""
    return bool(_panels(contest))


def _panels(contest: Contest) -> dict[float, dict[str, Structure]]:
    """By temperature and by method with its number of siblings."""
    panels: dict[float, dict[str, Structure]] = {}
    for one in ordered(contest):
        row = one.rows[0]
        if row.verifier == driver_of(contest, row.method) and closed(one):
            label = f"{base.style_of(row.method).label}\n{_parts(one)[0].optimum_siblings}"
            panels.setdefault(row.temperature, {}).setdefault(label, one)
    return panels


def _panel(axes: Any, structures: dict[str, Structure]) -> None:
    names = in_order(name for one in structures.values() for name in closed(one))
    names.remove(BASE)
    for index, name in enumerate(names):
        shift = 0.14 * (index - (len(names) - 1) / 2)
        found = [
            (place + shift, closed(one)[name])
            for place, one in enumerate(structures.values())
            if name in closed(one)
        ]
        look = dataclasses.replace(style(name), line="none")  # methods are no scale
        draw_line(axes, [place for place, _ in found], [share for _, share in found], look)
    finish_panel(axes, list(structures), (FLOOR, 1.0))


def _parts(structure: Structure) -> list[Optimum]:
    return [row.optimum for row in structure.rows if row.optimum is not None]


def _mean_acceptance(parts: Sequence[Optimum], verifier: str) -> str:
    found = [part.root_acceptance[verifier] for part in parts if verifier in part.root_acceptance]
    return number(statistics.fmean(found), 3) if found else "-"


def _interval(ends: Sequence[Interval | None]) -> Interval | None:
    """The interval of what is closed, from those of what is left."""
    found = [end for end in ends if end is not None]
    if not found:
        return None
    least, most = (statistics.fmean(side) for side in zip(*found, strict=True))
    return 1.0 - most, 1.0 - least


def _beside(share: Measured | None) -> str:
    if share is None:
        return ""
    value, ends = share
    interval = "" if ends is None else f" [{100 * ends[0]:.0f}, {100 * ends[1]:.0f}]"
    return f" ({100 * value:.0f} %{interval})"
