"""The metrics of rows that reports show: where, and under which head. The one list of them."""

import dataclasses
from collections.abc import Mapping

# The places where reports show metrics, and what a head is there.
GRID = "grid"  # a column of an experiment's figure: the label of its axis
STRUCTURES = "structures"  # a figure of all structures: the label of its axis
BARS = "bars"  # a panel of the bars of a comparison: its title
BEST_BY = "best_by"  # what the best structure can be picked by: the words in a sentence
BEST = "best"  # a column of the table of best structures
ALL = "all"  # a column of the table of all structures
BRIEF = "brief"  # a column of the table of a comparison


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
    """A number of rows, by the name of its field, and how it is shown.

    Attributes:
      heads: by place, what it is called there; it is shown nowhere else.
      unit: said beside it.
      digits: decimals in tables.
      interval: whether tables show its interval.
      absolute: of a ratio to autoregressive decoding: the field whose ratio it is.
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
    """The metrics of a place with their heads, in order."""
    return {name: one.heads[place] for name, one in METRICS.items() if place in one.heads}
