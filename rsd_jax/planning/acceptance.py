"""How often the child of each rank is the accepted one, counted in a run with a wide tree."""

import dataclasses

import numpy as np

from rsd_jax.core.tree import TreeShape
from rsd_jax.engine.results import GenerateStats
from rsd_jax.errors import ConfigError


@dataclasses.dataclass(frozen=True, eq=False)
class RankAcceptance:
    """What became of the nodes whose children were tested.

    Attributes:
      accepted: i64[K], how often the child of each rank was accepted.
      tested: how many accepted nodes, roots included, had K children.
    """

    accepted: np.ndarray
    tested: int

    @property
    def rates(self) -> np.ndarray:
        """f64[K], how often the child of a rank is the accepted one where its parent is accepted.

        Their sum is the probability that a block goes on at such a node.
        """
        return self.accepted / self.tested


def rank_acceptance(stats: GenerateStats, shape: TreeShape) -> RankAcceptance:
    """Counts the ranks of a run whose trees have the same number of children at every node.

    Give the run many children, e.g. RSD-C with 8-8 or 4-4-4-4: ranks that were not drawn are not
    known. The rates hold for the run's verifier and temperature, and for no other.

    Args:
      stats: of `generate`'s result.
      shape: of the method's trees: `method.drafter.shape`.

    Raises:
      ConfigError: the trees have another shape, or no block was decoded.
    """
    if not shape.branching or len(set(shape.branching)) > 1:
        raise ConfigError(
            f"ranks are counted in trees whose nodes all have the same number of children, e.g. "
            f"'rsd_c' with branching=(4, 4, 4); the tree is {shape.words!r}"
        )
    depths = np.asarray(stats.accepted_depths, np.int64).reshape(-1, shape.depth + 1).sum(axis=0)
    # A block that accepts d nodes tested the children of d + 1 nodes, but a leaf has none.
    tested = int((depths * np.minimum(np.arange(shape.depth + 1) + 1, shape.depth)).sum())
    if not tested:
        raise ConfigError("the run has no blocks; decode prompts with more new tokens")
    ranks = np.asarray(stats.accepted_ranks, np.int64).reshape(-1, shape.max_siblings).sum(axis=0)
    return RankAcceptance(ranks, tested)
