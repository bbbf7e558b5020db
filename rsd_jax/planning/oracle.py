"""How much of the best fixed structure of each task a choice made beforehand reaches, from rows.

A structure is a method with a tree and a verifier. The oracle takes for each task and temperature
the structure that was fastest in the rows, so the oracle's rate is the largest of several measured
rates, and noise raises it.
"""

import collections
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from rsd_jax.errors import ConfigError
from rsd_jax.planning.against import relative_rate
from rsd_jax.planning.calibration import Calibration, Structure
from rsd_jax.records import metrics
from rsd_jax.records.decoding import Decoding
from rsd_jax.records.metrics import Interval
from rsd_jax.records.rows import Row

ALL = "all"
"""The task of what is `Reached` over all tasks."""

_Parts = dict[Structure, list[Decoding]]


@dataclasses.dataclass(frozen=True)
class Share:
    """One choice beside the oracle.

    Attributes:
      structure: what was chosen.
      ratio: token rate, as a multiple of that of autoregressive decoding.
      share: token rate over the oracle's.
      interval: of `share`, paired by timed call; None if a row lacks the calls.
    """

    structure: Structure
    ratio: float
    share: float
    interval: Interval | None


@dataclasses.dataclass(frozen=True)
class Reached:
    """One task at one temperature, or all tasks of a temperature.

    Attributes:
      temperature, task: the task is `ALL` for all together.
      oracle: the fastest structure; None for all tasks, where tasks have oracles of their own.
      oracle_ratio: the oracle's token rate, as a multiple of that of autoregressive decoding.
      chosen: the calibration's choice for the temperature.
      single: the structure that is fastest over all tasks of the temperature.
    """

    temperature: float
    task: str
    oracle: Structure | None
    oracle_ratio: float
    chosen: Share
    single: Share


def reached(calibration: Calibration, rows: Iterable[Row]) -> list[Reached]:
    """Compares a calibration's choice and the best single structure with the oracle.

    Rates are compared as multiples of autoregressive decoding, so rows of several runs can be put
    together. Over all tasks, each task counts with the tokens and seconds of its autoregressive
    decoding.

    Args:
      calibration: its fastest method at each temperature of the rows is the choice.
      rows: of tasks that the calibration has not seen; only structures measured on all tasks of a
        temperature take part, autoregressive decoding among them.

    Returns:
      by temperature, its tasks in the order of the rows, then all together.

    Raises:
      ConfigError: autoregressive decoding or the choice has not been measured on every task, or a
        temperature was not calibrated.
    """
    tasks: dict[float, dict[str, _Parts]] = collections.defaultdict(dict)
    for row in rows:
        part = row.decoding
        if part is not None and row.status == "ok" and part.token_rate_ratio is not None:
            parts = tasks[row.temperature].setdefault(row.task, collections.defaultdict(list))
            verifier = "" if row.method == "ar" else row.verifier or ""
            parts[row.method, row.tree, verifier].append(part)
    found = []
    for temperature, of_tasks in sorted(tasks.items()):
        found += _at(temperature, of_tasks, calibration.best(temperature).structure)
    return found


def _at(temperature: float, tasks: Mapping[str, _Parts], chosen: Structure) -> list[Reached]:
    everywhere = set.intersection(*(set(parts) for parts in tasks.values()))
    for structure in (("ar", "-", ""), chosen):
        if structure not in everywhere:
            name = " ".join(structure[:2]).removesuffix(" -")
            raise ConfigError(f"T = {temperature:g}: {name} has no row in every task")
    candidates = sorted(everywhere)
    oracles = {task: _fastest(parts, candidates) for task, parts in tasks.items()}
    single = max(candidates, key=lambda structure: _over_all(tasks, lambda task: structure))

    def line(of: Mapping[str, _Parts], task: str, oracle: Structure | None) -> Reached:
        rate = _over_all(of, oracles.__getitem__)
        shares = [_share(of, each, oracles) for each in (chosen, single)]
        return Reached(temperature, task, oracle, rate, *shares)

    lines = [line({task: parts}, task, oracles[task]) for task, parts in tasks.items()]
    return [*lines, line(tasks, ALL, None)]


def _fastest(parts: _Parts, candidates: Sequence[Structure]) -> Structure:
    return max(candidates, key=lambda structure: relative_rate(parts[structure]))


def _over_all(tasks: Mapping[str, _Parts], of: Callable[[str], Structure]) -> float:
    """The ratio over tasks, each of which has a structure."""
    base = taken = 0.0
    for task, parts in tasks.items():
        seconds = sum(part.seconds for part in parts["ar", "-", ""])
        base += seconds
        taken += seconds / relative_rate(parts[of(task)])
    return base / taken


def _share(
    tasks: Mapping[str, _Parts], structure: Structure, oracles: Mapping[str, Structure]
) -> Share:
    ratio = _over_all(tasks, lambda task: structure)
    share = ratio / _over_all(tasks, oracles.__getitem__)
    tokens, seconds = _calls(tasks, lambda task: structure)
    base = _calls(tasks, oracles.__getitem__)
    paired = len(tokens) == len(base[0]) and len(tokens) > 1
    interval = metrics.bootstrap_interval(tokens, seconds, base=base) if paired else None
    return Share(structure, ratio, share, interval)


def _calls(
    tasks: Mapping[str, _Parts], of: Callable[[str], Structure]
) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and seconds of all timed calls; none if a row lacks them.

    Seconds are those that the calls would take if autoregressive decoding, beside which they were
    timed, had the rate of the row of autoregressive decoding: rows of several runs become alike.
    """
    tokens, seconds = [], []
    for task, parts in tasks.items():
        base = parts["ar", "-", ""]
        pace = sum(part.seconds for part in base) / sum(part.tokens for part in base)
        for part in parts[of(task)]:
            if part.call_tokens is None or part.call_seconds is None:
                return np.empty(0), np.empty(0)
            beside = part.token_rate / (part.token_rate_ratio or 1.0)
            tokens.append(np.asarray(part.call_tokens))
            seconds.append(np.asarray(part.call_seconds) * beside * pace)
    return np.concatenate(tokens), np.concatenate(seconds)
