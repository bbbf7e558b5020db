"""Figures of every structure that was tried, which show how the best were chosen."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rsd_jax.errors import ConfigError
from rsd_jax.reporting import figures as base
from rsd_jax.reporting.experiment.definitions import Experiment
from rsd_jax.reporting.experiment.selection import Choice, abscissa, abscissas, best_structures
from rsd_jax.reporting.metrics import METRICS, STRUCTURES
from rsd_jax.reporting.panels import Panel, Structure

_MARKERS = {"sd": "s", "spectr": "^", "rsd_c": "D", "rsd_s": "o"}
_PANEL_SIZE = (2.75, 2.35)
_LETTER = 0.027  # of the width, of a label
_MARGIN = 0.06  # of the width, beside the markers
_LABEL_GAP = 0.085  # of the height, between labels
_TICKS = (1, 2, 3, 5, 10, 20, 30, 50, 100)

_Chosen = tuple[float, float, str, str]  # value, place, tree, colour


def structures_figure(
    panels: Sequence[Panel], experiment: Experiment, best_by: str, metric: str, caption: str
) -> Any:
    """Draws a row per panel and a column per draft length (budget), a marker per structure.

    The logarithmic abscissa is the field in which the structures of a column differ: nodes scored
    per block in experiment 1, draft length in experiment 2. The best structures by `best_by` are
    filled and named; all other structures are hollow.

    Args:
      panels, experiment, best_by, caption: as for `grid_figure`.
      metric: the ordinate, one of `METRICS`.

    Returns:
      a matplotlib figure, for `base.save`.

    Raises:
      ConfigError: no structure has a value of the metric.
    """
    panels = [p for p in panels if any(s.value(metric) is not None for s in p.structures)]
    structures = [structure for panel in panels for structure in panel.structures]
    if not panels:
        raise ConfigError(f"no finished row of {experiment.name} has a value of {metric!r}")
    at = abscissas(panels, experiment)
    lines = base.wrapped(caption, _PANEL_SIZE[0] * len(at))
    figure, grid = base.new_figure(len(panels), len(at), _PANEL_SIZE, len(lines))
    figure.subplots_adjust(wspace=0.12)
    ends = {}
    for column, x in zip(grid.T, at, strict=True):
        here = [s for s in structures if abscissa(s, experiment) == x]
        for axes in column:
            ends[x] = _abscissa(axes, here, experiment.free_field)
    for panel, row in zip(panels, grid, strict=True):
        choices = best_structures(panel, experiment, best_by)
        _draw_row(row, choices, ends, experiment, metric)
        row[0].set_title(panel.label, fontsize=10.5, fontweight="bold", loc="left", pad=5)
        row[0].set_ylabel(METRICS[metric].heads[STRUCTURES], fontsize=9)
    for axes in grid[:-1].flat:
        axes.tick_params(labelbottom=False)
    for axes in grid[-1]:
        axes.set_xlabel(experiment.free_label, fontsize=9)
    variants = base.in_order(structure.variant for structure in structures)
    base.finish(figure, [_handle(variant) for variant in variants], lines)
    return figure


def _draw_row(
    row: Sequence[Any],
    choices: Mapping[tuple[str, int], Choice],
    ends: Mapping[int, float],
    experiment: Experiment,
    metric: str,
) -> None:
    tried = [structure for choice in choices.values() for structure in choice.tried]
    values = [value for one in tried if (value := one.value(metric)) is not None]
    margin = 0.1 * (max(values) - min(values)) or 0.1
    for axes, (x, end) in zip(row, ends.items(), strict=True):
        here = {variant: choice for (variant, where), choice in choices.items() if where == x}
        axes.set_ylim(min(values) - margin, max(values) + 2.2 * margin)
        axes.text(
            0.03,
            0.96,
            f"{experiment.label} {x}",
            transform=axes.transAxes,
            fontsize=8.5,
            va="top",
            color=base.GREY,
        )
        axes.tick_params(labelsize=8, length=2.5, width=0.7, labelleft=axes is row[0])
        axes.grid(color="#eeeeee", lw=0.6)
        axes.set_axisbelow(True)
        for side in axes.spines.values():
            side.set(linewidth=0.7, color="#777777")
        best = _scatter(axes, here, experiment.free_field, metric)
        _name(axes, sorted(best), end)


def _scatter(axes: Any, choices: Mapping[str, Choice], free: str, metric: str) -> list[_Chosen]:
    """Draws the markers; returns the structures to name."""
    best: list[_Chosen] = []
    for variant in base.in_order(choices):
        style, choice = base.style_of(variant), choices[variant]
        for structure in reversed(choice.tried):
            value, place = structure.value(metric), _place(structure, free)
            if value is None:
                continue
            chosen = structure is choice.best
            axes.plot(
                place,
                value,
                _marker(variant),
                ms=5,
                mew=1.2,
                color=style.color,
                mfc=style.color if chosen else "white",
                alpha=1.0 if chosen else 0.75,
                zorder=4 if chosen else 3,
                clip_on=False,
            )
            if chosen and len(choice.tried) > 1:
                best.append((value, place, structure.tree, style.color))
    return best


def _abscissa(axes: Any, structures: Sequence[Structure], field: str) -> float:
    """Sets a logarithmic axis with room at the right for the longest label; returns its start."""
    from matplotlib.ticker import NullLocator

    places = [_place(structure, field) for structure in structures]
    room = _LETTER * max(len(structure.tree) for structure in structures) + 2 * _MARGIN
    low, high = math.log(min(places)), math.log(max(places))
    if high - low < 0.5:
        low, high = low - 0.25, high + 0.25
    width = (high - low) / (1 - _MARGIN - room)
    axes.set_xscale("log")
    axes.set_xlim(math.exp(low - _MARGIN * width), math.exp(high + room * width))
    ticks = [tick for tick in _TICKS if min(places) <= tick <= max(places)]
    ticks = ticks or sorted({round(place) for place in places})
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    return math.exp(high + _MARGIN * width)


def _name(axes: Any, best: Sequence[_Chosen], x: float) -> None:
    """Writes the trees of chosen structures at the right, with a thin line to each marker."""
    low, high = axes.get_ylim()
    heights = [(value - low) / (high - low) for value, *_ in best]
    for (value, place, tree, color), height in zip(best, _apart(heights), strict=True):
        y = low + height * (high - low)
        axes.plot([place, x], [value, y], color=color, lw=0.6, alpha=0.7, zorder=2)
        axes.text(x, y, f" {tree}", fontsize=7, color=color, va="center", ha="left", zorder=5)


def _apart(heights: Sequence[float]) -> list[float]:
    """Moves ascending heights at least the gap apart, as little as possible."""
    placed: list[float] = []
    for height in heights:
        placed.append(max(height, placed[-1] + _LABEL_GAP) if placed else height)
    over = max(placed[-1] - 0.95, 0.0) if placed else 0.0
    for i in range(len(placed) - 1, -1, -1):
        ceiling = placed[i + 1] - _LABEL_GAP if i + 1 < len(placed) else placed[i] - over
        placed[i] = min(placed[i], ceiling)
    return placed


def _place(structure: Structure, field: str) -> float:
    value: int | None = getattr(structure.rows[0], field)
    return float(max(value or 1, 1))


def _marker(variant: str) -> str:
    return _MARKERS.get(variant) or ("v" if "/" not in variant else base.style_of(variant).marker)


def _handle(variant: str) -> Any:
    from matplotlib.lines import Line2D

    style = base.style_of(variant)
    marker = _marker(variant)
    return Line2D([], [], color=style.color, ls="", marker=marker, ms=6, label=style.label)
