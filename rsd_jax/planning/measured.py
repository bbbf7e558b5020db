"""Rows of decoding that can be held against a calibration."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rsd_jax.errors import ConfigError
from rsd_jax.planning.calibration import Calibration, Candidate
from rsd_jax.records.decoding import Decoding
from rsd_jax.records.rows import Row

_SAME = ("pair", "weights_sha256", "template", "dtype", "mesh", "batch_size", "top_k", "top_p")
"""Settings of rows that must agree."""


class Run(NamedTuple):
    """Which prompts were decoded, with which draws."""

    prompts: str | None
    seed: int


@dataclasses.dataclass(frozen=True)
class Measured:
    """A row with counts of blocks and a rate beside that of autoregressive decoding."""

    candidate: Candidate
    temperature: float
    task: str
    run: Run
    part: Decoding
    ratio: float

    @property
    def pace(self) -> float:
        """Tokens per second of autoregressive decoding beside this row."""
        return self.part.token_rate / self.ratio


def of_task(rows: Sequence[Row], task: str) -> list[Row]:
    """The rows of one task.

    Raises:
      ConfigError: there is none.
    """
    found = [row for row in rows if row.task == task]
    if not found:
        known = sorted({row.task for row in rows})
        raise ConfigError(f"no row is of the task {task!r}, only of {known}")
    return found


def measured(calibration: Calibration, rows: Iterable[Row]) -> list[Measured]:
    """The finished rows of decoding by our methods; of equal cells the last one.

    Rows of streams and of other engines are left out.

    Raises:
      ConfigError: rows differ in a setting, or from the calibration; or none is left.
    """
    found: dict[tuple[Candidate, float, str, Run], Measured] = {}
    first: Row | None = None
    for row in rows:
        part = row.decoding
        if row.kind != "decoding" or row.status != "ok" or part is None or not part.blocks:
            continue
        if not part.token_rate_ratio:
            continue
        first = first or row
        _check(calibration, first, row)
        each = Measured(
            candidate=Candidate.of_row(row),
            temperature=row.temperature,
            task=row.task,
            run=Run(row.prompts_sha256, row.seed),
            part=part,
            ratio=part.token_rate_ratio,
        )
        found[each.candidate, each.temperature, each.task, each.run] = each
    if not found:
        raise ConfigError(
            "no row is of decoding beside autoregressive decoding; give rows of rsd evaluate"
        )
    return list(found.values())


def relative_rate(parts: Sequence[Measured]) -> float:
    """Token rate over that of autoregressive decoding, all parts together.

    Autoregressive decoding, beside which each part was timed, would have taken `ratio` times as
    long for the part's tokens.
    """
    seconds = [each.part.seconds for each in parts]
    base = sum(each.ratio * each.part.seconds for each in parts)
    return base / sum(seconds)


def _check(calibration: Calibration, first: Row, row: Row) -> None:
    for name in _SAME:
        ours, other = getattr(first, name), getattr(row, name)
        if ours != other:
            raise ConfigError(
                f"rows differ in {name}: {ours!r} and {other!r}; give rows of one of these"
            )
    known = calibration.conditions
    here = {
        "weights": row.weights_sha256 or known.weights,
        "dtype": row.dtype or known.dtype,
        "hardware": row.hardware,
        "top_k": row.top_k,
        "top_p": row.top_p,
    }
    for name, value in here.items():
        if value != getattr(known, name):
            raise ConfigError(
                f"the calibration has {name}={getattr(known, name)!r}, the rows have {value!r}; "
                "calibrate again, or give other rows"
            )
