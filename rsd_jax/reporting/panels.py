"""Groups rows of decoding into panels; a panel is one row of a figure.

A panel has the rows of one pair on one task with one set of settings, in one experiment. Its
structures are methods, each with one tree and one verifier. Seeds of a structure are combined by
the unweighted mean, both of values and of the ends of intervals. As the seeds share their prompts,
an interval over prompts does not shrink with more seeds.
"""

import dataclasses
import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from rsd_jax.errors import ConfigError
from rsd_jax.records.metrics import Interval
from rsd_jax.records.rows import FILTERS, Row
from rsd_jax.reporting.names import pretty

AR = "ar"
# Besides pair and task, these fields are equal in compared rows; so is the draft's warp, if any.
_SETTINGS = (
    "template",
    "temperature",
    *FILTERS,
    "max_new_tokens",
    "batch_size",
    "batches_per_call",
    "dtype",
    "mesh",
)
# Rows that differ in one of these fields are from different runs; unfinished rows may lack some.
_IDENTITY = ("config_hash", "weights_sha256", "prompts_sha256")
_IN_WORDS = {
    "config_hash": "settings",
    "weights_sha256": "weights",
    "prompts_sha256": "prompts",
}
_DRAFT_SETTINGS = ("draft_temperature", "draft_top_k")


@dataclasses.dataclass(frozen=True)
class Structure:
    """One method with one tree and one verifier.

    Attributes:
      rows: finished rows, one per seed; at least one.
    """

    rows: tuple[Row, ...]

    @property
    def variant(self) -> str:
        """See `Row.variant`."""
        return self.rows[0].variant

    @property
    def tree(self) -> str:
        return self.rows[0].tree

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(sorted(row.seed for row in self.rows))

    def value(self, metric: str) -> float | None:
        """Mean of a field over the seeds that have the field; None if no seed has it."""
        values = [row.value(metric) for row in self.rows]
        return _mean([value for value in values if value is not None])

    def interval(self, metric: str) -> Interval | None:
        """Means of the lower and of the upper ends; None if no seed has an interval."""
        ends = [row.interval(metric) for row in self.rows]
        found = [end for end in ends if end is not None]
        if not found:
            return None
        return statistics.fmean(low for low, _ in found), statistics.fmean(up for _, up in found)


@dataclasses.dataclass(frozen=True)
class Panel:
    """One pair on one task with one set of settings, in one experiment.

    Attributes:
      experiment: experiment of the rows; None outside of experiments.
      label: e.g. "Llama-2-7B / WMT", with settings that differ between panels of the same name.
      structures: in the order in which they were first written, without "ar".
      ar: autoregressive decoding, if it was measured.
      unfinished: rows of structures and seeds that have no finished row.
    """

    experiment: str | None
    label: str
    structures: tuple[Structure, ...]
    ar: Structure | None
    unfinished: tuple[Row, ...]

    @property
    def rows(self) -> list[Row]:
        """All finished rows, first the rows of "ar"."""
        every = ([self.ar] if self.ar else []) + list(self.structures)
        return [row for structure in every for row in structure.rows]


def latest_rows(rows: Sequence[Row]) -> list[Row]:
    """One row per structure and seed: the last finished row, else the last row."""
    latest: dict[tuple, Row] = {}
    for row in rows:
        key = (
            _panel_key(row),
            _structure_key(row),
            row.seed,
            *(getattr(row, f) for f in _IDENTITY),
        )
        if row.status == "ok" or key not in latest or latest[key].status != "ok":
            latest[key] = row
    return list(latest.values())


def panels_of(rows: Sequence[Row]) -> list[Panel]:
    """Groups rows into panels, in the order in which panels were first written.

    Args:
      rows: rows of any experiments and kinds; only rows of kind "decoding" are used. Several rows
        of one structure and seed count once (`latest_rows`).

    Raises:
      ConfigError: rows of one panel are from runs with different settings, weights or prompts.
    """
    rows = latest_rows([row for row in rows if row.kind == "decoding"])
    grouped: dict[tuple, list[Row]] = defaultdict(list)
    for row in rows:
        if row.method != AR:
            grouped[_panel_key(row)].append(row)
    references = [row for row in rows if row.method == AR]
    labels = _labels([group[0] for group in grouped.values()])
    return [
        _panel(group, references, label)
        for group, label in zip(grouped.values(), labels, strict=True)
    ]


def _panel(group: Sequence[Row], references: Sequence[Row], label: str) -> Panel:
    first = group[0]
    alike = [row for row in references if _shared_key(row) == _shared_key(first)]
    finished = _closest([row for row in alike if row.status == "ok"], group)
    own = [row for row in alike if row.experiment == first.experiment]
    _one_run(group, label)
    structures: dict[tuple, list[Row]] = defaultdict(list)
    for row in group:
        if row.status == "ok":
            structures[_structure_key(row)].append(row)
    return Panel(
        experiment=first.experiment,
        label=label,
        structures=tuple(Structure(tuple(rows)) for rows in structures.values()),
        ar=Structure(tuple(finished)) if finished else None,
        unfinished=tuple(row for row in [*own, *group] if row.status != "ok"),
    )


def _closest(references: Sequence[Row], group: Sequence[Row]) -> list[Row]:
    """The rows of "ar" that are closest to the panel: same settings, else same experiment."""
    hashes = {row.config_hash for row in group}

    def rank(row: Row) -> tuple[bool, bool]:
        return row.config_hash in hashes, row.experiment == group[0].experiment

    best = max(map(rank, references), default=None)
    return [row for row in references if rank(row) == best]


def _one_run(group: Sequence[Row], label: str) -> None:
    where = f"rows of {label!r} in {group[0].experiment or 'no experiment'}"
    for field in _IDENTITY:
        values = (getattr(row, field) for row in group if row.status == "ok")
        counts = Counter(value for value in values if value is not None)
        if len(counts) > 1:
            found = " and ".join(f"{name[:16]} ({count} rows)" for name, count in counts.items())
            by_flag = f", or with --config_hash={next(iter(counts))}"
            raise ConfigError(
                f"{where} are from runs with different {_IN_WORDS[field]}, {field} {found}; plot "
                f"one run by itself, by its file{by_flag if field == 'config_hash' else ''}"
            )


def _labels(firsts: Sequence[Row]) -> list[str]:
    """Pair and task, and the settings that differ among panels of the same pair and task."""
    names = [f"{pretty(row.pair)} / {pretty(row.task)}" for row in firsts]
    labels = []
    for row, name in zip(firsts, names, strict=True):
        alike = [
            other
            for other, theirs in zip(firsts, names, strict=True)
            if theirs == name and other.experiment == row.experiment
        ]
        extra = [
            f"{field} {getattr(row, field)}"
            for field in (*_SETTINGS, *_DRAFT_SETTINGS)
            if len({str(getattr(other, field)) for other in alike}) > 1
        ]
        labels.append(f"{name} ({', '.join(extra)})" if extra else name)
    return labels


def _shared_key(row: Row) -> tuple:
    return (row.pair, row.task, *(str(getattr(row, field)) for field in _SETTINGS))


def _panel_key(row: Row) -> tuple:
    warp: tuple[Any, ...] = ()
    if row.method != AR:
        warp = tuple(getattr(row, field) for field in _DRAFT_SETTINGS)
    return (row.experiment, *_shared_key(row), *warp)


def _structure_key(row: Row) -> tuple:
    return row.variant, row.tree, row.draft_length, row.target_budget


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None
