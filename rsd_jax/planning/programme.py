"""The best static tree of each size, by dynamic programming (Chen et al. 2024, Sequoia, 4.1).

The model: where a node is accepted, its b-th child is the accepted one with a probability a_b that
depends on the child's rank and depth alone. A block then produces as many tokens as the sum, over
all nodes, of the product of a over the path from the root; the root's product is 1, for the token
that ends the block.
"""

import dataclasses

import numpy as np

from rsd_jax.core.tree import TreeShape


@dataclasses.dataclass(frozen=True, eq=False)
class _Level:
    """Best subtrees whose root has a given number of levels below.

    Attributes:
      tokens: f64[M + 1], of subtrees with m nodes, their root included; -inf where there is none.
      children: i32[M + 1], of the root of the best subtree with m nodes.
      sizes: i32[M + 1, K + 1], nodes below the b-th child, that child included, in the best subtree
        with m nodes whose root has b children.
    """

    tokens: np.ndarray
    children: np.ndarray
    sizes: np.ndarray


class BestTrees:
    """The trees with the most expected tokens, of every size, with at most a given depth.

    Args:
      acceptance: f64[D, K], a_b of the children of nodes at depths 0 to D - 1.
      max_nodes: M, the most nodes of a tree, its root included.
    """

    def __init__(self, acceptance: np.ndarray, max_nodes: int):
        self._max_nodes = max_nodes
        leaf = np.full(max_nodes + 1, -np.inf)
        leaf[1] = 1.0
        none = np.zeros(max_nodes + 1, np.int32)
        sizes = np.zeros((max_nodes + 1, acceptance.shape[1] + 1), np.int32)
        self._levels = [_Level(leaf, none, sizes)]
        for of_ranks in acceptance[::-1]:  # from the deepest level up
            self._levels.append(_level_above(self._levels[-1].tokens, of_ranks))

    def tokens(self, nodes: int) -> float:
        """Expected tokens of a block of the best tree; -inf if no tree has so many nodes."""
        return float(self._levels[-1].tokens[nodes])

    def parents(self, nodes: int) -> tuple[int, ...]:
        """The best tree, as in `TreeShape.from_parents`."""
        found = [-1]
        self._grow(len(self._levels) - 1, nodes, 0, found)
        return tuple(found)

    def _grow(self, height: int, nodes: int, place: int, found: list[int]) -> None:
        level = self._levels[height]
        sizes, left = [], nodes
        for rank in range(int(level.children[nodes]), 0, -1):
            sizes.append(int(level.sizes[left, rank]))
            left -= sizes[-1]
        for size in reversed(sizes):
            found.append(place)
            self._grow(height - 1, size, len(found) - 1, found)


def _level_above(below: np.ndarray, acceptance: np.ndarray) -> _Level:
    """The subtrees with one level more, from the tokens of those below and a_b of the children."""
    most, ranks = len(below) - 1, len(acceptance)
    tokens = np.full((most + 1, ranks + 1), -np.inf)
    tokens[1, 0] = 1.0
    exists = np.isfinite(below)
    sizes = np.zeros((most + 1, ranks + 1), np.int32)
    for rank in range(1, ranks + 1):
        for nodes in range(rank + 1, most + 1):
            # The last child's subtree has 1 to `nodes - rank` nodes; every earlier one at least 1.
            last = np.arange(1, nodes - rank + 1)
            gained = acceptance[rank - 1] * np.where(exists[last], below[last], 0.0)
            found = np.where(exists[last], tokens[nodes - last, rank - 1] + gained, -np.inf)
            best = int(found.argmax())
            tokens[nodes, rank], sizes[nodes, rank] = found[best], last[best]
    children = tokens.argmax(axis=1).astype(np.int32)
    return _Level(tokens.max(axis=1), children, sizes)


def tokens_of(shape: TreeShape, acceptance: np.ndarray) -> float:
    """Expected tokens of a block of any static tree, in the model of this module.

    Args:
      shape: with `child_counts`, at most K for each node and at most D levels.
      acceptance: f64[D, K], as for `BestTrees`.
    """
    parents = shape.static_parents
    assert parents is not None
    reached, ranks = np.ones(shape.num_nodes), np.zeros(shape.num_nodes, int)
    for node in range(1, shape.num_nodes):
        parent = parents[node]
        ranks[node] = ranks[node - 1] + 1 if parents[node - 1] == parent else 0
        reached[node] = reached[parent] * acceptance[shape.depths[parent], ranks[node]]
    return float(reached.sum())
