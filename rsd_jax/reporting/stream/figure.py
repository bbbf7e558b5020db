"""Speed-up along a stream of instances, as in the published figure of SWIFT."""

import statistics
from typing import Any

from rsd_jax.reporting.figures import GREY, wrapped
from rsd_jax.reporting.stream.streams import PromptStream
from rsd_jax.reporting.stream.tables import latency_table

_SIZE = (9.0, 5.2)
_OVERALL, _INSTANCE, _MATCHNESS, _STOP = "#2ca02c", "#8c8c8c", "#1f77b4", "#d62728"
_MOST_MARKERS = 25


def stream_figure(stream: PromptStream, caption: str) -> Any:
    """Draws both speed-up curves, matchness on a second axis, the stop, and the latency table.

    Args:
      stream: a stream with at least one instance.
      caption: text below the figure.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = wrapped(caption, _SIZE[0])
    height = _SIZE[1] + 0.16 * len(lines)
    figure = Figure(figsize=(_SIZE[0], height), dpi=150)
    FigureCanvasAgg(figure)
    bottom = (0.9 + 0.16 * len(lines)) / height
    matchness = figure.add_axes((0.08, bottom, 0.84, 1 - bottom - 0.5 / height))
    speedup = matchness.twinx()
    _curves(matchness, speedup, stream)
    _axes(matchness, speedup, stream)
    _stop(speedup, stream)
    if stream.phases:
        _table(speedup, stream)
    handles = [*matchness.get_lines()[:1], *speedup.get_lines()[:2]]
    figure.legend(
        handles=handles,
        loc="lower center",
        fontsize=9.5,
        frameon=False,
        ncols=len(handles),
        bbox_to_anchor=(0.5, (0.16 * len(lines) + 0.12) / height),
    )
    matchness.set_title(stream.label, fontsize=11, fontweight="bold", loc="left")
    figure.text(
        0.5, 0.08 / height, "\n".join(lines), fontsize=8, color=GREY, ha="center", va="bottom"
    )
    return figure


def _curves(matchness: Any, speedup: Any, stream: PromptStream) -> None:
    rows = stream.instances
    count = [row.value("instance") + 1 for row in rows]
    every = max(1, len(rows) // _MOST_MARKERS)
    best = [row.value("matchness") for row in rows]
    matchness.plot(count, best, color=_MATCHNESS, lw=1.8, ls="-.", label="Matchness", zorder=2)
    overall = [row.value("overall_ratio") for row in rows]
    each = [row.value("token_rate_ratio") for row in rows]
    style = {"marker": "o", "markersize": 4, "markevery": every, "lw": 1.8, "zorder": 3}
    speedup.plot(count, overall, color=_OVERALL, label="Overall speed-up", **style)
    style |= {"lw": 1.1, "markersize": 3, "alpha": 0.75, "zorder": 2}
    speedup.plot(count, each, color=_INSTANCE, ls="--", label="Instance speed-up", **style)
    average = statistics.fmean(each)
    speedup.annotate(
        f"Average {average:.2f}",
        (count[-1], average),
        (0, 14),
        textcoords="offset points",
        ha="right",
        va="bottom",
        fontsize=9,
        color=GREY,
        zorder=5,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0, "alpha": 0.8},
    )


def _axes(matchness: Any, speedup: Any, stream: PromptStream) -> None:
    matchness.set_xlabel("# of instances", fontsize=10)
    matchness.set_ylabel("matchness", fontsize=10)
    matchness.set_ylim(0.0, 1.03)  # shows a line at 1
    speedup.set_ylabel("speed-up over autoregressive decoding", fontsize=10)
    values = [
        row.value(name)
        for row in stream.instances
        for name in ("overall_ratio", "token_rate_ratio")
    ]
    low, high = min(values), max(values)
    span = max(high - low, 0.1)
    # Room for the table below the curves and for the legend above them.
    speedup.set_ylim(low - 0.85 * span, high + 0.15 * span)
    speedup.set_yticks(
        [tick for tick in speedup.get_yticks() if 0 <= tick <= speedup.get_ylim()[1]]
    )
    speedup.axhline(1.0, color=GREY, lw=0.8, ls=(0, (2, 3)), zorder=1)
    matchness.set_xlim(0, len(stream.instances) + 1)
    matchness.tick_params(labelsize=9)
    speedup.tick_params(labelsize=9)
    matchness.grid(color="#e6e6e6", lw=0.8)
    matchness.set_axisbelow(True)


def _stop(speedup: Any, stream: PromptStream) -> None:
    if stream.stopped_after is None:
        return
    speedup.axvline(stream.stopped_after, color=_STOP, ls="--", lw=1.3, zorder=1)
    speedup.annotate(
        "Optimization Stop!",
        (stream.stopped_after, 0.04),
        (4, 0),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        color=_STOP,
        fontsize=9,
        ha="left",
        va="bottom",
        rotation=90,
    )


def _table(axes: Any, stream: PromptStream) -> None:
    table = latency_table(stream)
    box = axes.table(
        cellText=[list(row) for row in table.rows],
        colLabels=list(table.heads),
        cellLoc="center",
        bbox=[0.6, 0.03, 0.385, 0.34],
        zorder=6,
    )
    box.auto_set_font_size(False)
    box.set_fontsize(8)
    for (line, _column), cell in box.get_celld().items():
        cell.set_edgecolor("#bbbbbb")
        cell.set_facecolor("#f3f3f3" if line == 0 else "white")
        if line in (0, len(table.rows)):
            cell.set_text_props(fontweight="bold")
    axes.text(
        0.7925,
        0.385,
        "Latency per token",
        transform=axes.transAxes,
        fontsize=8.5,
        ha="center",
        va="bottom",
        fontweight="bold",
        zorder=6,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0, "alpha": 0.8},
    )
