"""Bars for rows outside of an experiment; matplotlib is imported where it is used."""

import os
import pathlib
from collections.abc import Sequence
from typing import Any

from rsd_jax.errors import ConfigError
from rsd_jax.records.rows import Row
from rsd_jax.reporting import figures
from rsd_jax.reporting.figures import style_of
from rsd_jax.reporting.metrics import BARS, METRICS, shown_in

_MOST_BESIDE = 7  # with more bars, labels need panels one below the other, not side by side


def comparison_figure(rows: Sequence[Row]) -> Any:
    """Draws one bar per row, with its interval, in a panel for each metric of `BARS`.

    Args:
      rows: of one pair and task, in the order of the bars; rows that are not "ok" are left out.

    Returns:
      a matplotlib figure.

    Raises:
      ConfigError: no row can be drawn.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    rows = [row for row in rows if row.status == "ok" and row.value("block_efficiency") is not None]
    if not rows:
        raise ConfigError("there is no finished row to draw; run the measurement first")
    panels = shown_in(BARS)
    padded = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08)
    beside = len(rows) <= _MOST_BESIDE
    size = (11.0, 4.3) if beside else (max(11.0, 0.65 * len(rows)), 9.5)
    figure = Figure(figsize=size, dpi=150, layout=padded)
    FigureCanvasAgg(figure)
    grid = figure.subplots(*((1, len(panels)) if beside else (len(panels), 1)))
    for axes, (field, title) in zip(grid, panels.items(), strict=True):
        _bars(axes, rows, field)
        axes.set_title(title, fontsize=12, fontweight="bold", loc="left", pad=22)
        axes.text(
            0, 1.03, METRICS[field].unit, transform=axes.transAxes, fontsize=9, color="#555555"
        )
    figure.supxlabel(_caption(rows[0]), fontsize=8.5, x=0.012, ha="left", color="#555555")
    return figure


def plot_comparison(rows: Sequence[Row], path: str | os.PathLike[str]) -> pathlib.Path:
    """Writes `comparison_figure` to a PNG, PDF or SVG file; creates its folder if needed.

    Raises:
      ConfigError: no row can be drawn, or the format is unknown.
    """
    path = pathlib.Path(path)
    figures.save(comparison_figure(rows), path.with_suffix(""), [path.suffix[1:]])
    return path


def _bars(axes: Any, rows: Sequence[Row], field: str) -> None:
    top = 1.0
    for place, row in enumerate(rows):
        value = row.value(field)
        if value is None:
            continue
        low, high = row.interval(field) or (value, value)
        axes.bar(place, value, width=0.72, color=style_of(row.variant).color, zorder=2)
        if high > low:
            error = [[max(value - low, 0.0)], [max(high - value, 0.0)]]
            axes.errorbar(place, value, error, color="#222222", capsize=3, lw=1, zorder=3)
        above = max(value, high)
        axes.annotate(
            f"{value:.2f}",
            (place, above),
            (0, 4),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=9,
            zorder=4,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0},
        )
        top = max(top, above)
    axes.axhline(1.0, color="#8c8c8c", lw=1, ls=(0, (4, 3)), zorder=1)
    axes.set_ylim(0, 1.14 * top)
    names = [style_of(row.variant).label.replace(", ", "\n") for row in rows]  # narrow bars
    trees = [row.tree if row.tree != "-" else "" for row in rows]
    labels = [f"{name}\n{tree}" for name, tree in zip(names, trees, strict=True)]
    axes.set_xticks(range(len(rows)), labels, fontsize=9)
    axes.tick_params(axis="both", length=0)
    axes.tick_params(axis="y", labelsize=8, labelcolor="#555555")
    axes.locator_params(axis="y", nbins=6)
    axes.grid(axis="y", color="#e6e6e6", lw=0.8, zorder=0)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _caption(row: Row) -> str:
    parts = [
        f"{row.pair} pair, {row.value('num_prompts')} prompts ({row.task})",
        f"T = {row.temperature:g}",
        *row.filters_in_words(),
    ]
    if row.batch_size is not None:
        parts.append(f"batch {row.batch_size}")
    device = row.hardware.cpu if row.hardware.backend == "cpu" else row.hardware.device
    cores = f", {row.hardware.cores} cores" if row.hardware.backend == "cpu" else ""
    bars = "  |  whiskers: 95 % over prompts" if row.interval("block_efficiency") else ""
    return "  |  ".join([*parts, f"{device}{cores}"]) + bars
