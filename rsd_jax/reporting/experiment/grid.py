"""The grid of the papers: a row per pair and task, a column per metric, a line per method.

A method with another than its default verifier gets a separate line.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rsd_jax.errors import ConfigError
from rsd_jax.reporting import figures as base
from rsd_jax.reporting.experiment.definitions import Experiment
from rsd_jax.reporting.experiment.selection import Choice, abscissas, best_structures
from rsd_jax.reporting.metrics import GRID, METRICS, shown_in
from rsd_jax.reporting.panels import Panel

_ACCURACY = "accuracy_ratio"
_ACCURACY_LIMITS = (0.7, 1.3)  # as published; wider if a value lies outside
_PANEL_SIZE = (2.75, 1.95)

_Point = tuple[int, float, float, float]  # abscissa, value, ends of the interval


def grid_figure(panels: Sequence[Panel], experiment: Experiment, best_by: str, caption: str) -> Any:
    """Draws block efficiency, MBSU, token rate and accuracy against length or budget.

    Every point is the best structure by one metric, the same metric in all columns; the module
    `selection` says why this choice is optimistic. Bands are the intervals of the rows. A line has
    a gap where its method was not measured.

    Args:
      panels: panels of the experiment, in the order of the figure's rows.
      experiment: gives the abscissa.
      best_by: a metric shown in `BEST_BY`.
      caption: text below the legend; wrapped here.

    Returns:
      a matplotlib figure, for `base.save`.

    Raises:
      ConfigError: no panel has a finished row.
    """
    panels = [panel for panel in panels if panel.structures]
    if not panels:
        raise ConfigError(f"{experiment.name} has no finished row to draw; run its sweep first")
    at = abscissas(panels, experiment)
    metrics = shown_in(GRID)
    lines = base.wrapped(caption, _PANEL_SIZE[0] * len(metrics))
    figure, grid = base.new_figure(len(panels), len(metrics), _PANEL_SIZE, len(lines))
    figure.subplots_adjust(wspace=0.34)
    for panel, row in zip(panels, grid, strict=True):
        choices = best_structures(panel, experiment, best_by)
        for axes, metric in zip(row, metrics, strict=True):
            _draw(axes, panel, choices, at, metric)
        row[0].set_title(panel.label, fontsize=10.5, fontweight="bold", loc="left", pad=5)
    for axes in grid[:-1].flat:
        axes.tick_params(labelbottom=False)
    for axes in grid[-1]:
        axes.set_xlabel(experiment.label, fontsize=9)
    variants = base.in_order(s.variant for panel in panels for s in panel.structures)
    base.finish(figure, [_handle(variant) for variant in variants], lines)
    return figure


def _draw(
    axes: Any,
    panel: Panel,
    choices: Mapping[tuple[str, int], Choice],
    at: Sequence[int],
    metric: str,
) -> None:
    margin = 0.06 * (at[-1] - at[0]) or 0.5
    axes.set_xlim(at[0] - margin, at[-1] + margin)
    axes.set_xticks(at, [str(x) for x in at])
    axes.set_ylabel(METRICS[metric].heads[GRID], fontsize=9, labelpad=3)
    axes.tick_params(labelsize=8, length=2.5, width=0.7, pad=2.5)
    axes.grid(color="#e9e9e9", lw=0.6)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set(linewidth=0.7, color="#777777")
    values = []
    variants = base.in_order(variant for variant, _ in choices)
    for place, variant in enumerate(variants):
        points = [_point(choices.get((variant, x)), x, metric) for x in at]
        shift = 0.4 * margin * (place - len(variants) / 2 + 0.5)
        for run in _runs(points):
            _line(axes, run, base.style_of(variant), shift)
            values += [point[1] for point in run]
    if not values:
        _say_why_empty(axes, panel, metric)
    if METRICS[metric].absolute and (values or metric == _ACCURACY):
        axes.axhline(1.0, color="#8c8c8c", lw=0.8, ls=(0, (4, 3)), zorder=1)
    axes.locator_params(axis="y", nbins=5)
    if metric == _ACCURACY:
        _accuracy_axis(axes, values)


def _accuracy_axis(axes: Any, values: Sequence[float]) -> None:
    low, high = _ACCURACY_LIMITS
    if all(low < value < high for value in values):
        axes.set_ylim(low, high)
        axes.set_yticks([low, 0.85, 1.0, 1.15, high], [f"{low}", "", "1.0", "", f"{high}"])
    else:
        axes.set_ylim(min(low, *values) - 0.05, max(high, *values) + 0.05)


def _point(choice: Choice | None, at: int, metric: str) -> _Point | None:
    value = choice.best.value(metric) if choice else None
    if choice is None or value is None:
        return None
    low, high = choice.best.interval(metric) or (value, value)
    return at, value, low, high


def _runs(points: Sequence[_Point | None]) -> list[list[_Point]]:
    """Runs of points without a gap; a line over a gap would suggest a measurement there."""
    runs: list[list[_Point]] = [[]]
    for point in points:
        if point is None:
            runs.append([])
        else:
            runs[-1].append(point)
    return [run for run in runs if run]


def _line(axes: Any, run: Sequence[_Point], style: base.Style, shift: float) -> None:
    at, values, lows, highs = zip(*run, strict=True)
    look = {"color": style.color, "ls": style.line, "lw": 1.6, "ms": 4.2}
    if len(run) > 1:
        axes.fill_between(at, lows, highs, color=style.color, alpha=0.14, lw=0, zorder=2)
        axes.plot(at, values, marker=style.marker, zorder=3, **look)
        return
    # A single point has no line or band; it is shifted, so that points do not hide one another.
    below = [max(v - low, 0.0) for v, low in zip(values, lows, strict=True)]
    above = [max(high - v, 0.0) for v, high in zip(values, highs, strict=True)]
    axes.errorbar(
        [x + shift for x in at],
        values,
        [below, above],
        fmt=style.marker or ".",
        color=style.color,
        ms=4.2,
        lw=1.2,
        capsize=2,
        zorder=3,
    )


def _say_why_empty(axes: Any, panel: Panel, metric: str) -> None:
    scored = any(row.scores is not None for row in panel.rows)
    unscored = metric == _ACCURACY and not scored
    text = "no reference metric" if unscored else "not measured"
    axes.text(
        0.5,
        0.62 if metric == _ACCURACY else 0.5,
        text,
        transform=axes.transAxes,
        ha="center",
        va="center",
        fontsize=9,
        color=base.GREY,
        style="italic",
    )
    if metric != _ACCURACY:
        axes.set_yticks([])


def _handle(variant: str) -> Any:
    from matplotlib.lines import Line2D

    style = base.style_of(variant)
    return Line2D(
        [],
        [],
        color=style.color,
        ls=style.line,
        marker=style.marker,
        lw=1.8,
        ms=5,
        label=style.label,
    )
