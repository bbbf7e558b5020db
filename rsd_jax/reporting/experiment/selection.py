"""The best structure per method and abscissa, and whether the published orderings hold.

The best structure is picked and reported on the same prompts. This is optimistic: the largest of
several noisy numbers is too large on average, more so with more structures and fewer prompts. We
report it as the papers do; figures, tables and report say so and give the number of structures.
"""

import dataclasses
import itertools
from collections.abc import Sequence

from rsd_jax.errors import ConfigError
from rsd_jax.reporting.experiment.definitions import Experiment
from rsd_jax.reporting.metrics import BEST_BY, shown_in
from rsd_jax.reporting.panels import Panel, Structure

CHOICES = tuple(shown_in(BEST_BY))
"""Metrics that the best structure can be picked by; the first is the default."""
# Published ordering: each method is at least as good as the next.
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
      tried: all measured structures, `best` included, best first.
    """

    best: Structure
    tried: tuple[Structure, ...]


@dataclasses.dataclass(frozen=True)
class OrderingLink:
    """One link of the published ordering at one abscissa.

    Attributes:
      above, below: methods with their default verifiers; the ordering says above >= below.
      at: the abscissa.
      values: block efficiencies of both, None if not measured.
      verdict: one of `VERDICTS`.
    """

    above: str
    below: str
    at: int
    values: tuple[float | None, float | None]
    verdict: str


def check_best_by(best_by: str) -> None:
    """Raises `ConfigError` for a metric that structures cannot be picked by."""
    if best_by not in CHOICES:
        raise ConfigError(f"best_by={best_by!r} is unknown; choose one of {list(CHOICES)}")


def abscissa(structure: Structure, experiment: Experiment) -> int:
    """Draft length or target budget of a structure.

    Raises:
      ConfigError: the field is null in the structure's rows.
    """
    value: int | None = getattr(structure.rows[0], experiment.field)
    if value is None:
        raise ConfigError(
            f"a row of {experiment.name} ({structure.variant}, tree {structure.tree}) has "
            f"{experiment.field} null, but the experiment's figure needs it; write the field, or "
            "set experiment to null"
        )
    return value


def abscissas(panels: Sequence[Panel], experiment: Experiment) -> list[int]:
    """All abscissas of some panels, ascending."""
    return sorted(
        {abscissa(structure, experiment) for panel in panels for structure in panel.structures}
    )


def best_structures(
    panel: Panel, experiment: Experiment, best_by: str = CHOICES[0]
) -> dict[tuple[str, int], Choice]:
    """By (variant, abscissa), the structure with the largest value of one metric.

    The choice is optimistic, see the head of the module. Of structures with equal values, the
    smallest tree wins. Structures without a value come last.

    Args:
      panel: a panel of the experiment.
      experiment: gives the abscissa.
      best_by: one of `CHOICES`.

    Raises:
      ConfigError: the metric is unknown, or no structure of the panel has it.
    """
    check_best_by(best_by)
    if panel.structures and all(structure.value(best_by) is None for structure in panel.structures):
        raise ConfigError(
            f"best_by={best_by!r}, but no row of {panel.label!r} in {experiment.name} has this "
            f"metric; choose another of {list(CHOICES)}"
        )
    groups: dict[tuple[str, int], list[Structure]] = {}
    for structure in panel.structures:
        groups.setdefault((structure.variant, abscissa(structure, experiment)), []).append(
            structure
        )

    def worse(structure: Structure) -> tuple[float, int]:
        value = structure.value(best_by)
        return (0.0 if value is None else -value), structure.rows[0].target_budget or 0

    choices = {}
    for key, structures in groups.items():
        structures.sort(key=worse)
        choices[key] = Choice(best=structures[0], tried=tuple(structures))
    return choices


def orderings(
    panel: Panel, experiment: Experiment, best_by: str = CHOICES[0]
) -> list[OrderingLink]:
    """RSD-S >= RSD-C >= SpecTr >= SD in block efficiency, link by link, at every abscissa.

    "Outside the intervals" means that the 95 % intervals of both do not touch. As the methods
    share their prompts, this is stricter than a paired test.

    Args:
      panel, experiment, best_by: as for `best_structures`, whose choices are compared.
    """
    choices = best_structures(panel, experiment, best_by)
    found = []
    for at in abscissas([panel], experiment):
        for above, below in itertools.pairwise(ORDERING):
            structures = [
                choices[m, at].best if (m, at) in choices else None for m in (above, below)
            ]
            values = [
                structure.value("block_efficiency") if structure else None
                for structure in structures
            ]
            verdict = _verdict(*structures)
            found.append(OrderingLink(above, below, at, (values[0], values[1]), verdict))
    return found


def _verdict(above: Structure | None, below: Structure | None) -> str:
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


def in_words(experiment: Experiment, best_by: str) -> str:
    """How the best structure was picked, for the middle of a sentence."""
    return (
        f"the structure with the largest {shown_in(BEST_BY)[best_by]} of those tried at that "
        f"{experiment.label}, picked on the prompts it is reported on, which is optimistic"
    )
