"""The part of a row about the expected tokens of several verifiers on the same trees."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from rsd_jax.errors import ConfigError
from rsd_jax.records import metrics
from rsd_jax.records.metrics import Interval

BASE = "recursive_rejection"
"""The verifier that every gain is over; SpecTr has gains over its own verifier as well."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Expected:
    """Expected tokens per block, given the trees of the row's own run.

    The row's verifier decides, so it chooses the contexts; the others are evaluated on its trees.

    Attributes:
      expected_blocks: blocks of the run.
      expected_tokens: by verifier, expected tokens per block: a ratio of sums over all prompts.
      expected_tokens_intervals: their 95 % bootstrap intervals over prompts; null for one prompt.
      gains: by base and verifier, expected tokens over those of the base on the same trees. The
        bases are recursive rejection and the method's own verifier.
      gains_intervals: their paired 95 % bootstrap intervals over prompts; null for one prompt.

    Raises:
      ConfigError: the verifiers of the fields differ, or an interval is upside down.
    """

    expected_blocks: int
    expected_tokens: dict[str, float]
    gains: dict[str, dict[str, float]]
    expected_tokens_intervals: dict[str, Interval] | None = None
    gains_intervals: dict[str, dict[str, Interval]] | None = None

    def __post_init__(self):
        paired = self.gains_intervals or {}
        ends = dict(self.expected_tokens_intervals or {})
        names = sorted(self.expected_tokens)
        others = [sorted(found) for found in self.gains.values()]
        others += [sorted(found) for found in paired.values()]
        others += [sorted(ends)] if ends else []
        if different := [other for other in others if other != names]:
            raise ConfigError(
                f"field 'expected_tokens' has the verifiers {names}; intervals or gains have "
                f"{different[0]}"
            )
        for base, by_verifier in paired.items():
            ends |= {f"{name} over {base}": one for name, one in by_verifier.items()}
        for name, (low, high) in ends.items():
            if low > high:
                raise ConfigError(
                    f"the interval of {name} is {[low, high]}; the lower end comes first"
                )

    @classmethod
    def of(cls, sums: Mapping[str, np.ndarray], blocks: np.ndarray, own: str) -> "Expected":
        """The part, from sums.

        Args:
          sums: f64[P] by verifier, expected tokens of the blocks of each prompt. A verifier with a
            NaN, which needed a law that is none, is left out.
          blocks: int[P].
          own: the method's own verifier.
        """
        sums = {name: each for name, each in sums.items() if np.isfinite(each).all()}
        bases = [name for name in dict.fromkeys((BASE, own)) if name in sums]
        tokens = {name: metrics.block_efficiency(each, blocks) for name, each in sums.items()}
        part = cls(
            expected_blocks=int(blocks.sum()),
            expected_tokens=tokens,
            gains={
                base: {name: each / tokens[base] for name, each in tokens.items()} for base in bases
            },
        )
        if len(blocks) < 2:
            return part
        ends = metrics.bootstrap_interval
        return dataclasses.replace(
            part,
            expected_tokens_intervals={name: ends(each, blocks) for name, each in sums.items()},
            gains_intervals={
                base: {
                    name: ends(each, blocks, base=(sums[base], blocks))
                    for name, each in sums.items()
                }
                for base in bases
            },
        )
