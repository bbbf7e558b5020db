"""Gain of verifiers over recursive rejection against temperature or budget, a panel per method."""

import itertools
from collections.abc import Sequence
from typing import Any

from rsd_jax.records.expected import BASE
from rsd_jax.records.rows import own_verifier
from rsd_jax.reporting import figures as base
from rsd_jax.reporting.expected.contests import (
    Contest,
    Measured,
    gains,
    in_order,
    style,
    tokens,
)
from rsd_jax.reporting.expected.tables import ordered
from rsd_jax.reporting.panels import Structure

FLOOR = -0.15
"""Points with a lower gain are outside of the panels, so that the others can be told apart."""

_FIELDS = {"temperature": "temperature", "target_budget": "target budget"}
_PANEL_SIZE = (2.9, 2.2)


def gain_figure(contest: Contest, against: str, caption: str) -> Any:
    """Draws a column for each method and a line for each value of the field not on the abscissa.

    The contexts of a method are those of one verifier, see `driver_of`. Of several trees of one
    method at one budget and temperature, the one is drawn on which the base itself has most tokens.

    Args:
      contest: what to draw.
      against: "temperature" or "target_budget", the abscissa.
      caption: text below the legend; wrapped here.

    Returns:
      a matplotlib figure, for `figures.save`.
    """
    (fixed,) = set(_FIELDS) - {against}
    drawn = _drawn(contest)
    panels: dict[tuple[float, str], list[Structure]] = {}
    for one in drawn:
        row = one.rows[0]
        panels.setdefault((getattr(row, fixed), row.method), []).append(one)
    methods = base.in_order(method for _, method in panels)
    values = sorted({value for value, _ in panels})
    if fixed == "temperature" and values != [0]:
        values = [value for value in values if value]  # nothing is gained at T = 0
    lines = base.wrapped(caption, _PANEL_SIZE[0] * len(methods))
    figure, grid = base.new_figure(len(values), len(methods), _PANEL_SIZE, len(lines))
    figure.subplots_adjust(wspace=0.3)
    at = sorted({getattr(one.rows[0], against) for one in drawn})
    limits = _limits(drawn)
    for (line, value), (column, method) in itertools.product(enumerate(values), enumerate(methods)):
        axes = grid[line, column]
        if (value, method) not in panels:
            axes.set_visible(False)
            continue
        _panel(axes, panels[value, method], against, at, limits)
        title = f"{base.style_of(method).label}, {_FIELDS[fixed]} {value:g}"
        axes.set_title(title, fontsize=9.5, fontweight="bold", loc="left", pad=5)
        if not any((below, method) in panels for below in values[line + 1 :]):
            axes.set_xlabel(_FIELDS[against], fontsize=9)
        if not any((value, left) in panels for left in methods[:column]):
            axes.set_ylabel("gain (%)", fontsize=9, labelpad=3)
    verifiers = in_order(name for one in drawn for name in gains(one))
    base.finish(figure, [legend_handle(name) for name in verifiers], lines)
    return figure


def contexts_in_words(contest: Contest) -> str:
    """Whose contexts are drawn, see `driver_of`."""
    methods = base.in_order(one.rows[0].method for one in contest.structures)
    drivers = {method: driver_of(contest, method) for method in methods}
    if all(driver == own_verifier(method) for method, driver in drivers.items()):
        return "each method's own verifier"
    return ", ".join(
        f"{style(driver).label} ({base.style_of(method).label})"
        for method, driver in drivers.items()
    )


def driver_of(contest: Contest, method: str) -> str:
    """The verifier whose contexts are drawn: the method's own if it was run, else the first."""
    drivers = in_order(
        one.rows[0].verifier or "" for one in contest.structures if one.rows[0].method == method
    )
    own = own_verifier(method)
    return own if own in drivers else drivers[0]


def _drawn(contest: Contest) -> list[Structure]:
    best: dict[tuple, Structure] = {}
    for one in ordered(contest):
        row = one.rows[0]
        place = (row.method, row.target_budget, row.temperature)
        if row.verifier != driver_of(contest, row.method) or not gains(one):
            continue
        if place not in best or tokens(one)[BASE] > tokens(best[place])[BASE]:
            best[place] = one
    return list(best.values())


def _limits(drawn: Sequence[Structure]) -> tuple[float, float]:
    """Ends of the axis of gains, the same in all panels."""
    ends = [
        end
        for one in drawn
        for value, interval in map(_over_one, gains(one).values())
        if value > FLOOR
        for end in (*(interval or ()), value)
    ]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    margin = 0.08 * (high - low) or 0.01
    return max(low - margin, FLOOR), high + margin


def _over_one(gain: Measured) -> Measured:
    value, ends = gain
    return value - 1, None if ends is None else (ends[0] - 1, ends[1] - 1)


def _panel(
    axes: Any,
    structures: Sequence[Structure],
    against: str,
    at: Sequence[float],
    limits: tuple[float, float],
) -> None:
    names = in_order(name for one in structures for name in gains(one))
    places = {value: place for place, value in enumerate(at)}
    for index, name in enumerate(names):
        found = sorted(
            (places[getattr(one.rows[0], against)], _over_one(gains(one)[name]))
            for one in structures
            if name in gains(one)
        )
        shift = 0.14 * (index - (len(names) - 1) / 2)
        at_places = [place + shift for place, _ in found]
        draw_line(axes, at_places, [gain for _, gain in found], style(name))
    finish_panel(axes, [f"{value:g}" for value in at], limits)


def finish_panel(axes: Any, ticks: Sequence[str], limits: tuple[float, float]) -> None:
    """The abscissa with `ticks`, the line at 0, and the ordinate in percent between `limits`."""
    axes.axhline(0.0, color="#8c8c8c", lw=0.8, ls=(0, (4, 3)), zorder=1)
    axes.set_xlim(-0.5, len(ticks) - 0.5)
    axes.set_xticks(range(len(ticks)), ticks)
    axes.set_ylim(*(100 * end for end in limits))
    axes.tick_params(labelsize=8, length=2.5, width=0.7, pad=2.5)
    axes.grid(color="#e9e9e9", lw=0.6, axis="y")
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set(linewidth=0.7, color="#777777")


def draw_line(
    axes: Any, places: Sequence[float], found: Sequence[Measured], look: base.Style
) -> None:
    """One verifier's values in percent, with their intervals."""
    values = [100 * value for value, _ in found]
    ends = [interval or (value, value) for value, interval in found]
    below = [max(v - 100 * low, 0) for v, (low, _) in zip(values, ends, strict=True)]
    above = [max(100 * high - v, 0) for v, (_, high) in zip(values, ends, strict=True)]
    axes.errorbar(
        places,
        values,
        [below, above],
        fmt=look.marker,
        ls=look.line,
        color=look.color,
        ms=4.2,
        lw=1.2,
        capsize=1.8,
        zorder=3,
    )


def legend_handle(verifier: str) -> Any:
    """A line of the legend."""
    from matplotlib.lines import Line2D

    look = style(verifier)
    return Line2D(
        [], [], color=look.color, ls=look.line, marker=look.marker, lw=1.8, ms=5, label=look.label
    )
