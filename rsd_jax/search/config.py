"""The settings of a search, with the published values as defaults."""

import dataclasses
from typing import Any

from rsd_jax.core.skips import check_ratio
from rsd_jax.errors import ConfigError, is_integer, is_number, positive_integer


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    """Which candidates are tried, how often, and when the search ends for good.

    Attributes:
      ratio: skip ratio r; for a model of n layers, a candidate skips int(2 (n - 2) r) sub-layers.
      context: C, number of positions over which a candidate is scored.
      opt_interval: decode steps (blocks) from one candidate to the next.
      bayes_every: every `bayes_every`-th candidate is a Bayesian suggestion, the others are random.
      kappa: weight of the standard deviation in the upper confidence bound of suggestions.
      max_score: an adopted candidate with a score above it ends the search.
      max_tolerance: more than this many candidates in a row without an adoption end the search.
      max_iterations: more than this many candidates in all end the search.
      seed: of random candidates and suggestions.
    """

    ratio: float = 0.45
    context: int = 32
    opt_interval: int = 1
    bayes_every: int = 25
    kappa: float = 2.5
    max_score: float = 0.95
    max_tolerance: int = 300
    max_iterations: int = 1000
    seed: int = 0

    def __post_init__(self):
        check_ratio(self.ratio)
        for name in ("context", "opt_interval", "bayes_every"):
            positive_integer(name, getattr(self, name))
        for name in ("max_tolerance", "max_iterations", "seed"):
            self._check(name, is_integer(getattr(self, name)), "an integer of at least 0")
        for name in ("kappa", "max_score"):
            self._check(name, is_number(getattr(self, name)), "a number of at least 0")

    def _check(self, name: str, right_type: bool, expected: str) -> None:
        value: Any = getattr(self, name)
        if not (right_type and value >= 0):
            raise ConfigError(f"{name}={value!r} must be {expected}")
