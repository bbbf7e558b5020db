"""Figure of the time of a draft pass against the bytes that the pass reads."""

from collections.abc import Sequence
from typing import Any

from rsd_jax.reporting import figures as base
from rsd_jax.reporting.skipping.costs import NEAR, SkipCosts

_SIZE = (5.4, 4.4)
_MARKERS = ("o", "D", "^", "s", "v")


def skipping_figure(costs: Sequence[SkipCosts], caption: str) -> Any:
    """Draws a line per target, the line on which time follows bytes, and a band around this line.

    Args:
      costs: at least one.
      caption: text below the figure.
    """
    lines = base.wrapped(caption, _SIZE[0])
    figure, grid = base.new_figure(1, 1, _SIZE, len(lines))
    # No room for a legend below, as the legend is inside.
    bottom = (0.6 + 0.16 * len(lines)) / figure.get_figheight()
    figure.subplots_adjust(bottom=bottom, top=0.97)
    axes = grid[0, 0]
    ends = [0.0, 1.0]
    axes.plot(ends, ends, color=base.GREY, lw=1.0, ls="--", label="time as bytes", zorder=1)
    axes.fill_between(
        ends,
        [x * (1 - NEAR) for x in ends],
        [x * (1 + NEAR) for x in ends],
        color="#e3e3e3",
        lw=0,
        label=f"within {NEAR:.0%} of it",
        zorder=0,
    )
    for index, one in enumerate(costs):
        kept = [row.value("kept_fraction") for row in one.passes]
        time = [row.value("t_draft_ratio") for row in one.passes]
        axes.plot(
            kept,
            time,
            marker=_MARKERS[index % len(_MARKERS)],
            markersize=5,
            lw=1.4,
            label=one.label,
            zorder=2 + index,
        )
    axes.set_xlim(0, 1.03)
    slowest = max(row.value("t_draft_ratio") for one in costs for row in one.passes)
    axes.set_ylim(0, max(1.18, 1.05 * slowest))
    axes.set_xlabel("bytes that a pass reads (whole pass = 1)", fontsize=9.5)
    axes.set_ylabel("time of the pass (whole pass = 1)", fontsize=9.5)
    axes.grid(color="#e6e6e6", lw=0.8)
    axes.set_axisbelow(True)
    axes.legend(loc="upper left", fontsize=8.5, frameon=False)
    figure.text(
        0.5,
        0.08 / figure.get_figheight(),
        "\n".join(lines),
        fontsize=8,
        color=base.GREY,
        ha="center",
        va="bottom",
    )
    return figure
