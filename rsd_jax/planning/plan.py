"""Chooses the static tree with the most expected tokens per second."""

import dataclasses

import numpy as np

from rsd_jax.core.tree import TreeShape
from rsd_jax.drafters.static_tree import StaticTree
from rsd_jax.errors import ConfigError, positive_integer
from rsd_jax.planning.costs import BlockCosts
from rsd_jax.planning.programme import BestTrees


@dataclasses.dataclass(frozen=True)
class Plan:
    """A tree, and what is expected of it in the model of `planning.programme`.

    Attributes:
      parents: of the tree, for `build_method("static", parents=...)`.
      tokens: expected tokens of a block.
      seconds: of the passes of a block.
    """

    parents: tuple[int, ...]
    tokens: float
    seconds: float

    @property
    def tree(self) -> str:
        """The tree in words."""
        return StaticTree(self.parents).words

    @property
    def tokens_per_second(self) -> float:
        """Expected tokens of a block over the seconds of its passes."""
        return self.tokens / self.seconds


def plan_tree(
    acceptance: np.ndarray, costs: BlockCosts, *, max_nodes: int = 64, max_depth: int = 16
) -> Plan:
    """The static tree with the most expected tokens per second.

    For each number of nodes and each depth, dynamic programming finds the tree with the most
    expected tokens; of these trees the fastest is chosen by the costs.

    Args:
      acceptance: f64[K], how often the child of each rank is the accepted one where its parent is
        accepted, see `RankAcceptance.rates`; or f64[D, K], the same by the parent's depth.
      costs: of the passes, see `measure_costs`.
      max_nodes: the most nodes of the tree, its root not included.
      max_depth: the most levels below the root; the rows of `acceptance` if it has fewer.

    Raises:
      ConfigError: the rates are not probabilities with a sum of at most 1, or a number is not a
        positive integer.
    """
    nodes = 1 + positive_integer("max_nodes", max_nodes)
    rates = _by_depth(acceptance, positive_integer("max_depth", max_depth))
    plans = []
    for depth in range(1, len(rates) + 1):
        trees = BestTrees(rates[:depth], nodes)
        for size in range(2, nodes + 1):
            if not np.isfinite(trees.tokens(size)):
                continue
            parents = trees.parents(size)
            seconds = costs.block_seconds(TreeShape.from_parents(parents))
            plans.append(Plan(parents, trees.tokens(size), seconds))
    return max(plans, key=lambda plan: plan.tokens_per_second)


def _by_depth(acceptance: np.ndarray, max_depth: int) -> np.ndarray:
    """f64[D, K] with D at most `max_depth`."""
    rates = np.asarray(acceptance, np.float64)
    rates = np.tile(rates, (max_depth, 1)) if rates.ndim == 1 else rates[:max_depth]
    is_law = rates.ndim == 2 and rates.size and (rates >= 0.0).all()
    if not is_law or not (rates.sum(axis=1) <= 1.0 + 1e-9).all():
        raise ConfigError(
            f"acceptance={acceptance!r} must hold probabilities, one per rank, whose sum is at "
            "most 1, or a row of such numbers per depth"
        )
    return rates
