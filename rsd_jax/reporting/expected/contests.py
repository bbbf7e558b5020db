"""Rows with expected tokens, grouped for tables and figures."""

import dataclasses
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence

from rsd_jax.records.expected import BASE, Expected
from rsd_jax.records.metrics import Interval
from rsd_jax.records.rows import Row
from rsd_jax.reporting.figures import VERIFIER_STYLES, Style
from rsd_jax.reporting.names import pretty
from rsd_jax.reporting.panels import Panel, Structure, panels_of

Measured = tuple[float, Interval | None]
"""A value and its interval."""


@dataclasses.dataclass(frozen=True)
class Contest:
    """One pair on one task at all temperatures.

    Attributes:
      label: pair, task and filters.
      panels: with such rows, one per temperature, lowest first.
      structures: with expected tokens, of all panels.
    """

    label: str
    panels: tuple[Panel, ...]
    structures: tuple[Structure, ...]

    @property
    def verifiers(self) -> list[str]:
        """All verifiers that were evaluated, the base first."""
        return in_order(name for one in self.structures for name in tokens(one))


def contests_of(rows: Sequence[Row]) -> list[Contest]:
    """Groups the rows that have expected tokens; others are ignored.

    Raises:
      ConfigError: a panel has rows of several runs.
    """
    grouped: dict[tuple, list[Panel]] = defaultdict(list)
    for panel in panels_of([row for row in rows if row.method == "ar" or row.expected]):
        if panel.structures:
            first = panel.structures[0].rows[0]
            filters = ", ".join(first.filters_in_words())
            label = f"{pretty(first.pair)} / {pretty(first.task)}"
            label += f" ({filters})" if filters else ""
            grouped[first.experiment, label].append(panel)
    return [
        Contest(
            label,
            tuple(sorted(panels, key=lambda p: p.structures[0].rows[0].temperature)),
            tuple(one for panel in panels for one in panel.structures),
        )
        for (_, label), panels in grouped.items()
    ]


def tokens(structure: Structure) -> dict[str, Measured]:
    """Expected tokens per block by verifier, means over seeds of values and of intervals' ends."""
    parts = _parts(structure)
    return {
        name: _mean(
            [part.expected_tokens[name] for part in parts],
            [(part.expected_tokens_intervals or {}).get(name) for part in parts],
        )
        for name in parts[0].expected_tokens
    }


def gains(structure: Structure, base: str = BASE) -> dict[str, Measured]:
    """Expected tokens over those of `base` by verifier, without `base`; {} without such gains."""
    parts = _parts(structure)
    return {
        name: _mean(
            [part.gains[base][name] for part in parts],
            [(part.gains_intervals or {}).get(base, {}).get(name) for part in parts],
        )
        for name in parts[0].gains.get(base, {})
        if name != base
    }


def bases(structures: Iterable[Structure]) -> list[str]:
    """The verifiers that gains are over, recursive rejection first."""
    return in_order(base for one in structures for part in _parts(one) for base in part.gains)


def in_order(verifiers: Iterable[str]) -> list[str]:
    """Each verifier once, in the order of `VERIFIER_STYLES`, then others by name."""
    known = list(VERIFIER_STYLES)
    return sorted(
        set(verifiers), key=lambda name: (known.index(name) if name in known else len(known), name)
    )


def style(verifier: str) -> Style:
    """How a verifier is drawn and named."""
    return VERIFIER_STYLES.get(verifier) or Style(verifier, "#4d4d4d", "-", "s")


def _parts(structure: Structure) -> list[Expected]:
    return [row.expected for row in structure.rows if row.expected is not None]


def _mean(values: Sequence[float], intervals: Sequence[Interval | None]) -> Measured:
    ends = [end for end in intervals if end is not None]
    if not ends:
        return statistics.fmean(values), None
    low, high = (statistics.fmean(side) for side in zip(*ends, strict=True))
    return statistics.fmean(values), (low, high)
