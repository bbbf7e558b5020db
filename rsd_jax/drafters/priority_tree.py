"""Trees whose levels hold the slots with the highest priority."""

import dataclasses
import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rsd_jax.core.sampling import gumbel_top_k
from rsd_jax.core.tree import MOST_NODES, SiblingLaw, TreeShape
from rsd_jax.drafters.base import doubling_widths
from rsd_jax.drafters.growth import Children, TreeRule
from rsd_jax.drafters.tree_law import Levels, Prefix, Table, prefix_row
from rsd_jax.errors import ConfigError, is_number, positive_integer

Siblings = list[tuple[float, int]]
"""Priority and token of the children of a node, in draw order."""


class Contenders(NamedTuple):
    """The children that each node of a level can have, in draw order.

    Attributes:
      tokens: i32[B, w, C].
      own: f32[B, w, C], log probability of each token under the draft.
      priority: f32[B, w, C], in logs; -inf for a child that does not exist.
    """

    tokens: jax.Array
    own: jax.Array
    priority: jax.Array


@dataclasses.dataclass(frozen=True)
class PriorityTree(TreeRule):
    """Each level gets the W slots with the highest priority.

    The value of a node is the probability of its path under the draft. The priority
    of a likeliest child is its value. A subclass that draws children gives a drawn child another
    priority.

    Attributes:
      width: W.
      length: L.
      threshold: a slot needs a priority above this value, else it stays empty. In [0, 1). With a
        positive threshold the target pass runs at the smallest of a few widths that holds the trees
        of the batch.

    Raises:
      ConfigError: a value is out of range.
    """

    width: int
    length: int
    threshold: float = 0.0

    def __post_init__(self):
        for name in ("width", "length"):
            value = positive_integer(name, getattr(self, name), most=MOST_NODES)
            object.__setattr__(self, name, value)
        if not is_number(self.threshold) or not 0.0 <= self.threshold < 1.0:
            raise ConfigError(f"threshold={self.threshold!r} must be at least 0 and below 1")
        object.__setattr__(self, "threshold", float(self.threshold))

    @property
    def shape(self) -> TreeShape:
        return TreeShape((1,) + (self.width,) * self.length)

    @property
    def words(self) -> str:
        """ "6x5", or "6x5@0.05" with a threshold."""
        if self.threshold == 0.0:
            return f"{self.width}x{self.length}"
        bound = np.format_float_positional(self.threshold, trim="-")
        return f"{self.width}x{self.length}@{bound}"

    @property
    def pass_widths(self) -> tuple[int, ...] | None:
        return doubling_widths(self.shape.num_nodes) if self.threshold else None

    def start(self, batch: int) -> jax.Array:
        """log value f32[B, 1] of the root."""
        return jnp.zeros((batch, 1), jnp.float32)

    def contenders(
        self, logprobs: jax.Array, value: jax.Array, noise: jax.Array | None
    ) -> Contenders:
        """The children that the nodes of a level can have: here their likeliest tokens.

        Args:
          logprobs: f32[B, w, V], the draft's laws at the nodes.
          value: f32[B, w, 1], log value of the nodes.
          noise: see `TreeRule.expand`.
        """
        own, tokens = gumbel_top_k(logprobs, None, min(self.width, logprobs.shape[-1]))
        return Contenders(tokens, own, value + own)

    def expand(
        self, level: int, carry: jax.Array, logprobs: jax.Array, noise: jax.Array | None
    ) -> tuple[Children, jax.Array]:
        value, batch = carry.astype(logprobs.dtype)[..., None], logprobs.shape[0]
        found = self.contenders(logprobs, value, noise)
        most = found.tokens.shape[-1]
        # A node's priorities must not rise from child to child, not even by rounding. top_k is
        # stable, so no child is kept without its earlier siblings, and siblings stay in order.
        priority = jax.lax.cummin(found.priority, axis=2)
        kept, index = jax.lax.top_k(priority.reshape(batch, -1), self.width)
        valid = kept > (math.log(self.threshold) if self.threshold else -math.inf)
        values = jnp.take_along_axis((value + found.own).reshape(batch, -1), index, axis=1)
        codes = jnp.asarray([self.law_of_rank(rank).code for rank in range(most)], jnp.int8)
        is_mixed = SiblingLaw.MIXED in self.sibling_laws
        children = Children(
            tokens=jnp.take_along_axis(found.tokens.reshape(batch, -1), index, axis=1),
            parents=(index // most).astype(jnp.int32),
            valid=valid,
            scores=kept,
            laws=codes[index % most] if is_mixed else None,
        )
        return children, jnp.where(valid, values, -jnp.inf).astype(jnp.float32)

    def drawn_levels(self, draft: Table) -> Iterator[tuple[float, Levels]]:
        vocab = draft[0].shape[-1]
        trees: dict[Levels, float] = {(((),),): 1.0}
        values: dict[Prefix, float] = {(): 1.0}
        for laws in draft[: self.length]:
            grown: dict[Levels, float] = {}
            for levels, probability in trees.items():
                nodes = [node for node in levels[-1] if node is not None]
                rows = [laws[prefix_row(node, vocab)] for node in nodes]
                for node, law in zip(nodes, rows, strict=True):
                    values |= {(*node, x): values[node] * law[x] for x in range(vocab)}
                for choice in itertools.product(*map(self.siblings, rows)):
                    slots = [
                        (values[node] * priority, (*node, x))
                        for node, (_, children) in zip(nodes, choice, strict=True)
                        for priority, x in children
                    ]
                    slots.sort(key=lambda slot: -slot[0])
                    kept = [path for priority, path in slots if priority > self.threshold]
                    kept = kept[: self.width]
                    tree = (*levels, (*kept, *[None] * (self.width - len(kept))))
                    weight = probability * math.prod(p for p, _ in choice)
                    grown[tree] = grown.get(tree, 0.0) + weight
            trees = grown
        for levels, probability in trees.items():
            yield probability, levels

    def siblings(self, law: np.ndarray) -> Iterator[tuple[float, Siblings]]:
        """The children that a node of value 1 can have, as `contenders`, each with its probability.

        Args:
          law: f64[V], the draft's at the node.
        """
        yield 1.0, [(float(law[x]), int(x)) for x in np.argsort(-law, kind="stable")]
