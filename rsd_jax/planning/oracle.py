"""How much of the fastest method of each task a choice made beforehand reaches, from rows.

The oracle takes for each task the method, tree and verifier with the largest measured rate; being
the largest of several numbers, this rate is raised by noise.
"""

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from rsd_jax.errors import ConfigError
from rsd_jax.planning.calibration import Calibration, Candidate
from rsd_jax.planning.measured import Measured, Run, measured, of_task, relative_rate
from rsd_jax.records import metrics
from rsd_jax.records.metrics import Interval
from rsd_jax.records.rows import Row

ALL = "all"
"""The task of what is `Reached` over all tasks."""

_AR = Candidate("ar", "-", "")
_Parts = dict[Candidate, dict[Run, Measured]]


@dataclasses.dataclass(frozen=True)
class Share:
    """One choice beside the oracle.

    Attributes:
      candidate: what was chosen; None if it differs between tasks.
      ratio: token rate, as a multiple of that of autoregressive decoding.
      share: token rate over the oracle's.
      interval: of `share`, over prompts (timed calls), paired and task by task; None if a row lacks
        its calls, or if choice and oracle were not measured on the same prompts and seeds.
    """

    candidate: Candidate | None
    ratio: float
    share: float
    interval: Interval | None


@dataclasses.dataclass(frozen=True)
class Reached:
    """One task at one temperature, or all tasks of a temperature.

    Attributes:
      temperature, task: the task is `ALL` for all together.
      oracle: the fastest; None for all tasks, where tasks have oracles of their own.
      oracle_ratio: the oracle's token rate, as a multiple of that of autoregressive decoding.
      chosen: the calibrations' choice for the temperature.
      single: what is fastest over all tasks of the temperature.
    """

    temperature: float
    task: str
    oracle: Candidate | None
    oracle_ratio: float
    chosen: Share
    single: Share


def reached(
    calibration: Calibration | Mapping[str, Calibration],
    rows: Iterable[Row],
    temperature: float,
) -> list[Reached]:
    """Compares a calibration's choice and the best single method with the oracle.

    Rates are multiples of autoregressive decoding, so rows of several runs can be put together.
    Over all tasks, each task counts with the seconds that autoregressive decoding takes for it.

    Args:
      calibration: its fastest method at `temperature` is the choice. By task, if each kind of text
        has its own; rows of other tasks are then left out.
      rows: of tasks that the calibration has not seen; only methods that were measured on all
        tasks take part, autoregressive decoding among them.
      temperature: of the rows that are compared.

    Returns:
      the tasks in the order of the rows, then all together.

    Raises:
      ConfigError: autoregressive decoding or the choice has not been measured on every task, or the
        temperature was not calibrated, or a calibration's task has no row; or as `measured`.
    """
    tasks: dict[str, _Parts] = {}
    for each in _of_tasks(calibration, list(rows)):
        if each.temperature == temperature:
            parts = tasks.setdefault(each.task, collections.defaultdict(dict))
            parts[each.candidate][each.run] = each
    if not tasks:
        raise ConfigError(f"no row is of T = {temperature:g}")
    chosen = {
        task: (calibration if isinstance(calibration, Calibration) else calibration[task])
        .best(temperature)
        .candidate
        for task in tasks
    }
    everywhere = set.intersection(*(set(parts) for parts in tasks.values()))
    for candidate in (_AR, *chosen.values()):
        if candidate not in everywhere:
            raise ConfigError(
                f"T = {temperature:g}: {candidate.words} has no row in every task; measure it with "
                "rsd evaluate --calibration"
            )
    candidates = sorted(everywhere, key=str)
    oracles = {task: _fastest(parts, candidates) for task, parts in tasks.items()}
    single = max(candidates, key=lambda candidate: _rate(tasks, _same(tasks, candidate)))
    choices = chosen, _same(tasks, single)

    def line(of: Mapping[str, _Parts], task: str, oracle: Candidate | None) -> Reached:
        shares = [_share(of, each, oracles) for each in choices]
        return Reached(temperature, task, oracle, _rate(of, oracles), *shares)

    lines = [line({task: parts}, task, oracles[task]) for task, parts in tasks.items()]
    return [*lines, line(tasks, ALL, None)]


def _of_tasks(
    calibration: Calibration | Mapping[str, Calibration], rows: Sequence[Row]
) -> list[Measured]:
    if isinstance(calibration, Calibration):
        return measured(calibration, rows)
    parts = (measured(each, of_task(rows, task)) for task, each in calibration.items())
    return [each for part in parts for each in part]


def _fastest(parts: _Parts, candidates: Sequence[Candidate]) -> Candidate:
    return max(candidates, key=lambda candidate: _ratio(parts, candidate))


def _same(tasks: Iterable[str], candidate: Candidate) -> dict[str, Candidate]:
    """One choice for all tasks."""
    return {task: candidate for task in tasks}


def _ratio(parts: _Parts, candidate: Candidate) -> float:
    return relative_rate(list(parts[candidate].values()))


def _rate(tasks: Mapping[str, _Parts], chosen: Mapping[str, Candidate]) -> float:
    """The ratio over tasks, with a choice for each task."""
    seconds = {task: _base_seconds(parts) for task, parts in tasks.items()}
    taken = sum(seconds[task] / _ratio(parts, chosen[task]) for task, parts in tasks.items())
    return sum(seconds.values()) / taken


def _base_seconds(parts: _Parts) -> float:
    return sum(each.part.seconds for each in parts[_AR].values())


def _share(
    tasks: Mapping[str, _Parts],
    chosen: Mapping[str, Candidate],
    oracles: Mapping[str, Candidate],
) -> Share:
    own = {task: chosen[task] for task in tasks}
    ratio, different = _rate(tasks, own), set(own.values())
    candidate = different.pop() if len(different) == 1 else None
    return Share(candidate, ratio, ratio / _rate(tasks, oracles), _interval(tasks, own, oracles))


def _interval(
    tasks: Mapping[str, _Parts], own: Mapping[str, Candidate], oracles: Mapping[str, Candidate]
) -> Interval | None:
    """Of the ratio of two `_rate`s: the prompts of each task are resampled, the same for both."""
    taken = [np.zeros(()), np.zeros(())]
    for place, (task, parts) in enumerate(tasks.items()):
        both = [parts[chosen[task]] for chosen in (own, oracles)]
        every = [len(each.part.call_tokens or ()) for of in both for each in of.values()]
        calls = max(every)
        if set(both[0]) != set(both[1]) or min(every) != calls or calls < 2:
            return None
        weights = metrics.resampled(calls, seed=place)
        for index, of in enumerate(both):
            ratios = _resampled_ratios(list(of.values()), weights)
            taken[index] = taken[index] + _base_seconds(parts) / ratios
    return metrics.percentile_ends(taken[1] / taken[0])


def _resampled_ratios(parts: Sequence[Measured], weights: np.ndarray) -> np.ndarray:
    """f64[R]: `relative_rate` for each of the weights of calls i64[R, calls]."""
    base = sum(weights @ np.asarray(each.part.call_tokens) / each.pace for each in parts)
    return base / sum(weights @ np.asarray(each.part.call_seconds) for each in parts)
