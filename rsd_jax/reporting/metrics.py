"""The list of all metrics that reports show, with the places and headings of each."""

import dataclasses
from collections.abc import Mapping

# The places where reports show metrics; after the colon, what the heading is there.
GRID = "grid"  # a column of an experiment's figure: the label of the axis
STRUCTURES = "structures"  # a figure of all structures: the label of the axis
BARS = "bars"  # a panel of the bars of a comparison: the title
BEST_BY = "best_by"  # a metric that the best structure can be picked by: words in a sentence
BEST = "best"  # a column of the table of best structures
ALL = "all"  # a column of the table of all structures
BRIEF = "brief"  # a column of the table of a comparison


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
    """How a numeric field of rows is shown.

    Attributes:
      heads: the headings of the metric by place; places without a heading do not show the metric.
      unit: unit beside the heading.
      digits: decimals in tables.
      interval: whether tables show the interval.
      absolute: for a ratio to autoregressive decoding, the field that the ratio is of.
    """

    heads: Mapping[str, str]
    unit: str = ""
    digits: int = 2
    interval: bool = True
    absolute: str | None = None


METRICS: dict[str, Metric] = {
    "block_efficiency": Metric(
        heads=dict.fromkeys((GRID, STRUCTURES, BEST_BY, BEST, ALL, BRIEF), "block efficiency")
        | {BARS: "Block efficiency"},
        unit="tokens per target call",
    ),
    "mbsu": Metric(
        heads=dict.fromkeys((GRID, BARS, BEST_BY, BEST, ALL, BRIEF), "MBSU"),
        unit="memory-bound speed-up over AR",
    ),
    "token_rate": Metric(
        heads={ALL: "tokens/s", BRIEF: "tokens/s"}, unit="tokens/s", digits=1, interval=False
    ),
    "token_rate_ratio": Metric(
        heads={
            GRID: "token rate (AR = 1)",
            STRUCTURES: "token rate (AR = 1)",
            BARS: "Token rate",
            BEST_BY: "token rate",
            BEST: "token rate / AR",
            ALL: "/ AR",
            BRIEF: "vs AR",
        },
        unit="relative to AR, same run",
        absolute="token_rate",
    ),
    "accuracy": Metric(heads={ALL: "accuracy"}, interval=False),
    "accuracy_ratio": Metric(
        heads={GRID: "accuracy (AR = 1)", BEST: "accuracy / AR", ALL: "/ AR"},
        absolute="accuracy",
    ),
    "compile_time": Metric(heads={ALL: "compile s"}, digits=1, interval=False),
    "tokens": Metric(heads={BRIEF: "tokens"}, digits=0, interval=False),
}


def shown_in(place: str) -> dict[str, str]:
    """The metrics of a place with their headings, in order."""
    return {name: one.heads[place] for name, one in METRICS.items() if place in one.heads}
