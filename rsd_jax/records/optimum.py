"""The part of a row about the optimum: what verifiers accept below a node, and could accept."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from rsd_jax.records import metrics
from rsd_jax.records.expected import BASE
from rsd_jax.records.metrics import Interval

_NO_DISTANCE = 1e-4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimum:
    """Whether a child of the root is accepted, the root and its children being the whole tree.

    Attributes:
      optimum_blocks: blocks of the row's own run that were looked at, the first ones of each
        prompt.
      optimum_siblings: children of the root.
      optimum: probability that the best lossless verifier accepts a child; a mean over the blocks.
      root_acceptance: by verifier, the probability that it accepts a child; a mean over the blocks
        and over many draws of the children in each.
      distance_left: by verifier, what is left of the distance from recursive rejection to the
        optimum: 1 for recursive rejection, 0 for the optimum; null without such a distance.
      distance_left_intervals: their paired 95 % bootstrap intervals over prompts; null for one
        prompt.
    """

    optimum_blocks: int
    optimum_siblings: int
    optimum: float
    root_acceptance: dict[str, float]
    distance_left: dict[str, float] | None = None
    distance_left_intervals: dict[str, Interval] | None = None

    @classmethod
    def of(
        cls,
        acceptance: Mapping[str, np.ndarray],
        optimum: np.ndarray,
        blocks: np.ndarray,
        *,
        siblings: int,
    ) -> "Optimum":
        """The part, from sums.

        Args:
          acceptance: f64[P] by verifier, probabilities that a child is accepted, summed over the
            blocks of each prompt. A verifier with a NaN, which needed a law that is none, is left
            out.
          optimum: f64[P], the same of the optimum.
          blocks: int[P], blocks that were looked at.
          siblings: children of the root.
        """
        sums = {name: each for name, each in acceptance.items() if np.isfinite(each).all()}
        count = blocks.sum()
        part = cls(
            optimum_blocks=int(count),
            optimum_siblings=siblings,
            optimum=float(optimum.sum() / count),
            root_acceptance={name: float(each.sum() / count) for name, each in sums.items()},
        )
        if BASE not in sums or part.optimum - part.root_acceptance[BASE] < _NO_DISTANCE:
            return part
        whole = optimum - sums[BASE]
        # The mean over some draws may exceed the optimum, which is a mean over all of them.
        left = {name: optimum - each for name, each in sums.items()}
        part = dataclasses.replace(
            part,
            distance_left={
                name: max(0.0, float(each.sum() / whole.sum())) for name, each in left.items()
            },
        )
        if len(blocks) < 2:
            return part
        ends = {name: metrics.bootstrap_interval(each, whole) for name, each in left.items()}
        return dataclasses.replace(
            part,
            distance_left_intervals={
                name: (max(0.0, low), max(0.0, high)) for name, (low, high) in ends.items()
            },
        )
