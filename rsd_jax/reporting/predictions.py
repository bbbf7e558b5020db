"""What was predicted of methods beside what was measured, as a figure."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from rsd_jax.reporting import figures

_MEASURED, _PREDICTED, _BAND = "#1f77b4", "#d62728", "#ececec"
_WIDTH, _LINE, _NAMES = 6.4, 0.24, 1.7  # inches: of a panel, of a method, of the methods' names


@dataclasses.dataclass(frozen=True)
class Prediction:
    """One quantity of one method.

    Attributes:
      name: of the method, as a label.
      predicted, measured: the two values.
      error: standard error of the predicted value; 0 if it is not known.
    """

    name: str
    predicted: float
    measured: float
    error: float = 0.0


@dataclasses.dataclass(frozen=True)
class Quantity:
    """A panel of the figure.

    Attributes:
      title: of the panel.
      label: of its axis.
      within: the band around measured values, 0.05 for 5 %.
      predictions: a line each, from the top.
    """

    title: str
    label: str
    within: float
    predictions: Sequence[Prediction]


def prediction_figure(quantities: Sequence[Sequence[Quantity]], caption: str) -> Any:
    """Draws a row of panels for each sequence of quantities.

    Args:
      quantities: sequences of one length; quantities of one column have the same band and label.
      caption: text below the legend; wrapped here.

    Returns:
      a matplotlib figure, for `figures.save`.
    """
    most = max(len(one.predictions) for line in quantities for one in line)
    columns = len(quantities[0])
    size = (_WIDTH / columns + _NAMES, 0.9 + _LINE * most)
    lines = figures.wrapped(caption, size[0] * columns)
    figure, grid = figures.new_figure(len(quantities), columns, size, len(lines))
    width = figure.get_figwidth()
    figure.subplots_adjust(left=_NAMES / width, wspace=0.12)
    for axes_of, line in zip(grid, quantities, strict=True):
        for column, (axes, quantity) in enumerate(zip(axes_of, line, strict=True)):
            _panel(axes, quantity, named=column == 0)
    for axes, quantity in zip(grid[-1], quantities[-1], strict=True):
        axes.set_xlabel(quantity.label, fontsize=9)
    figures.finish(figure, _handles([one.within for one in quantities[0]]), lines)
    return figure


def _panel(axes: Any, quantity: Quantity, *, named: bool) -> None:
    found, half = quantity.predictions, 0.36
    for place, each in enumerate(found):
        low, high = (each.measured * (1 + sign * quantity.within) for sign in (-1, 1))
        axes.fill_betweenx((place - half, place + half), low, high, color=_BAND, lw=0, zorder=0)
        axes.plot((each.predicted, each.measured), (place, place), color="#9a9a9a", lw=1.0)
    places = range(len(found))
    axes.plot([each.measured for each in found], places, "o", color=_MEASURED, ms=5, zorder=4)
    axes.errorbar(
        [each.predicted for each in found],
        places,
        xerr=[1.96 * each.error for each in found],
        fmt="D",
        mfc="white",
        color=_PREDICTED,
        ms=4.6,
        lw=1.0,
        zorder=3,
    )
    axes.set_ylim(len(found) - 0.4, -0.6)
    axes.set_yticks(places, [each.name for each in found] if named else [])
    axes.set_title(quantity.title, fontsize=9.5, fontweight="bold", loc="left", pad=5)
    axes.tick_params(labelsize=8.5, length=2.5, width=0.7, pad=2.5)
    axes.grid(color="#e2e2e2", lw=0.6, axis="x")
    axes.set_axisbelow(True)


def _handles(within: Sequence[float]) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    band = " / ".join(f"{100 * each:g} %" for each in within)
    return [
        Line2D([], [], marker="o", ls="", color=_MEASURED, ms=5, label="measured"),
        Line2D([], [], marker="D", ls="", color=_PREDICTED, mfc="white", ms=5, label="predicted"),
        Patch(color=_BAND, label=f"within {band} of measured"),
    ]
