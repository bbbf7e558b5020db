"""The best structure per method and abscissa, and whether the published orderings hold.

Picking the best of several structures on the prompts that it is then reported on is optimistic:
the largest of several noisy numbers is too large on average, the more so the more structures were
tried and the fewer the prompts. The papers report it in this way, so we do; the figures, tables and
report say so, and say how many structures were tried.
"""

import dataclasses
import itertools
from collections.abc import Sequence

from rsd_jax.errors import ConfigError
from rsd_jax.reporting.experiments import Experiment
from rsd_jax.reporting.panels import Cell, Panel

BEST_BY = ("block_efficiency", "mbsu", "token_rate_ratio")
# Published: each at least as good as the next.
ORDERING = ("rsd_s", "rsd_c", "spectr", "sd")
VERDICTS = (
    "holds outside the intervals",
    "holds within the intervals",
    "violated within the intervals",
    "violated outside the intervals",
    "holds, no intervals",
    "violated, no intervals",
    "not measured",
)


@dataclasses.dataclass(frozen=True)
class Choice:
    """A method at one abscissa.

    Attributes:
      best: the structure that is shown.
      tried: all that were measured, the best among them, best first.
    """

    best: Cell
    tried: tuple[Cell, ...]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One link of the published ordering at one abscissa.

    Attributes:
      above, below: methods; the ordering says that `above` has at least as much.
      at: the abscissa.
      values: of both, None where there is none.
      verdict: one of `VERDICTS`.
    """

    above: str
    below: str
    at: int
    values: tuple[float | None, float | None]
    verdict: str


def check_best_by(best_by: str) -> None:
    """Raises ConfigError for a metric that structures cannot be picked by."""
    if best_by not in BEST_BY:
        raise ConfigError(f"best_by={best_by!r} is no metric; choose one of {list(BEST_BY)}")


def abscissa(cell: Cell, experiment: Experiment) -> int:
    """Draft length or target budget of a cell.

    Raises:
      ConfigError: its rows do not tell.
    """
    value: int | None = getattr(cell.rows[0], experiment.field)
    if value is None:
        raise ConfigError(
            f"a row of {experiment.name} ({cell.method}, tree {cell.tree}) has {experiment.field} "
            f"null, and its figure is drawn against it; write the field, or set experiment to null"
        )
    return value


def abscissas(panels: Sequence[Panel], experiment: Experiment) -> list[int]:
    """All of some panels, ascending."""
    return sorted({abscissa(cell, experiment) for panel in panels for cell in panel.cells})


def best_structures(
    panel: Panel, experiment: Experiment, best_by: str = BEST_BY[0]
) -> dict[tuple[str, int], Choice]:
    """By (method, abscissa), the structure with the largest value of one metric, for all columns.

    Read the head of the module: it is optimistic. Of equals the smallest tree wins. A structure
    without a value of the metric is the last choice.

    Args:
      panel: of the experiment.
      experiment: says what is held fixed.
      best_by: one of `BEST_BY`.

    Raises:
      ConfigError: an unknown metric, or one that no cell of the panel has.
    """
    check_best_by(best_by)
    if panel.cells and all(cell.value(best_by) is None for cell in panel.cells):
        raise ConfigError(
            f"best_by={best_by!r}, but no row of {panel.label!r} in {experiment.name} has a value "
            f"of it; choose another of {list(BEST_BY)}"
        )
    groups: dict[tuple[str, int], list[Cell]] = {}
    for cell in panel.cells:
        groups.setdefault((cell.method, abscissa(cell, experiment)), []).append(cell)

    def worse(cell: Cell) -> tuple[float, int]:
        value = cell.value(best_by)
        return (0.0 if value is None else -value), cell.rows[0].target_budget or 0

    choices = {}
    for key, cells in groups.items():
        cells.sort(key=worse)
        choices[key] = Choice(best=cells[0], tried=tuple(cells))
    return choices


def orderings(panel: Panel, experiment: Experiment, best_by: str = BEST_BY[0]) -> list[Comparison]:
    """RSD-S >= RSD-C >= SpecTr >= SD in block efficiency, link by link, at every abscissa.

    "Outside the intervals" means that the 95 % intervals of both do not touch. The methods share
    their prompts, so that asks more than a paired test would.

    Args:
      panel, experiment, best_by: as for `best_structures`, whose choices are compared.
    """
    choices = best_structures(panel, experiment, best_by)
    found = []
    for at in abscissas([panel], experiment):
        for above, below in itertools.pairwise(ORDERING):
            cells = [choices[m, at].best if (m, at) in choices else None for m in (above, below)]
            values = [cell.value("block_efficiency") if cell else None for cell in cells]
            verdict = _verdict(*cells)
            found.append(Comparison(above, below, at, (values[0], values[1]), verdict))
    return found


def _verdict(above: Cell | None, below: Cell | None) -> str:
    metric = "block_efficiency"
    first = above.value(metric) if above else None
    second = below.value(metric) if below else None
    if above is None or below is None or first is None or second is None:
        return "not measured"
    word = "holds" if first >= second else "violated"
    ends, others = above.interval(metric), below.interval(metric)
    if ends is None or others is None:
        return f"{word}, no intervals"
    apart = ends[0] > others[1] or others[0] > ends[1]
    return f"{word} {'outside' if apart else 'within'} the intervals"
