"""Static trees: any tree whose shape is chosen beforehand, such as Sequoia's (Chen et al. 2024)."""

import dataclasses
import re
from collections.abc import Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from rsd_jax.core.sampling import gumbel_top_k
from rsd_jax.core.tree import MOST_NODES, SiblingLaw, TreeShape, counts_in_words
from rsd_jax.core.types import NO_NODE
from rsd_jax.drafters.growth import Children, TreeRule
from rsd_jax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class StaticTree(TreeRule):
    """Gumbel-top-k children at every node, whose number is the node's own.

    Attributes:
      parents: the tree, see `TreeShape.from_parents`; kept in the order of the slots, so that two
        lists of one tree are equal.
    """

    method: ClassVar[str] = "static"

    parents: Sequence[int]

    def __post_init__(self):
        in_slots = TreeShape.from_parents(self.parents).static_parents
        assert in_slots is not None
        object.__setattr__(self, "parents", tuple(in_slots.tolist()))

    @property
    def shape(self) -> TreeShape:
        return TreeShape.from_parents(self.parents)

    @property
    def words(self) -> str:
        return counts_in_words(self._child_counts)

    @property
    def sibling_laws(self) -> frozenset[SiblingLaw]:
        # A single draw per node fits all of these.
        if self.shape.max_siblings == 1:
            return frozenset({SiblingLaw.SINGLE, SiblingLaw.IID, SiblingLaw.WITHOUT_REPLACEMENT})
        return frozenset({SiblingLaw.WITHOUT_REPLACEMENT})

    def noise_rows(self, level: int) -> int:
        return int(np.count_nonzero(self._child_counts[level]))

    def start(self, batch: int) -> jax.Array:
        """bool[B, 1], which nodes of the level are valid."""
        return jnp.ones((batch, 1), bool)

    def expand(
        self, level: int, carry: jax.Array, logprobs: jax.Array, noise: jax.Array | None
    ) -> tuple[Children, jax.Array]:
        counts = np.asarray(self._child_counts[level])
        with_children = np.flatnonzero(counts)
        scores, tokens = gumbel_top_k(logprobs[:, with_children], noise, int(counts.max()))
        parents = np.repeat(np.arange(len(counts)), counts)
        # Of each child: its parent's place among the nodes with children, and its rank.
        at = np.searchsorted(with_children, parents), _ranks(counts)
        scores, tokens = scores[:, *at], tokens[:, *at]
        valid = jnp.isfinite(scores) & carry[:, parents]
        return Children(tokens, parents[None], valid, scores), valid

    @property
    def _child_counts(self) -> tuple[tuple[int, ...], ...]:
        counts = self.shape.child_counts
        assert counts is not None
        return counts


def _ranks(counts: np.ndarray) -> np.ndarray:
    """The place of each child among its siblings: (2, 0, 3) gives 0 1 0 1 2."""
    return np.concatenate([np.arange(count) for count in counts])


def parents_of_words(words: str) -> tuple[int, ...] | None:
    """The parents of a tree in the words of `StaticTree`, None if these are other words.

    One number for a level is that of every node.

    >>> parents_of_words("3-1.0.2")
    (-1, 0, 0, 0, 1, 3, 3)

    Raises:
      ConfigError: a tree of more than `MOST_NODES` nodes.
    """
    parents, width = [NO_NODE], 1
    for level in words.split("-"):
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})*", level):
            return None
        counts = [int(count) for count in level.split(".")]
        counts = counts * width if len(counts) == 1 else counts
        if len(counts) != width or not any(counts):
            return None
        if len(parents) + sum(counts) > MOST_NODES:
            raise ConfigError(f"tree {words!r:.80} has more than {MOST_NODES} nodes")
        start = len(parents) - width
        parents += [start + node for node, count in enumerate(counts) for _ in range(count)]
        width = sum(counts)
    return tuple(parents)
