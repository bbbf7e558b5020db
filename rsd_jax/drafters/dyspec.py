"""DySpec, level by level: slots go where the draft expects acceptance (Xiong et al. 2024)."""

import dataclasses
import itertools
import math
from collections.abc import Iterator
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from rsd_jax.core.sampling import gumbel_top_k
from rsd_jax.core.tree import MOST_NODES, SiblingLaw, TreeShape
from rsd_jax.drafters.base import doubling_widths
from rsd_jax.drafters.growth import Children, TreeRule
from rsd_jax.drafters.tree_law import Levels, Prefix, Table, ordered_samples, prefix_row
from rsd_jax.errors import ConfigError, is_number, positive_integer


@dataclasses.dataclass(frozen=True)
class DySpecTree(TreeRule):
    """Each level gets the W slots with the highest priority, for children without replacement.

    The value of a node is the probability of its path under the draft. The priority of a node's
    k-th child is the node's value times the probability that the draft leaves after the node's
    first k - 1 children. So whether a child is drawn depends on what was drawn before, never on
    the child's own token: ranking children by their own probability would change the output law.

    At T = 0 nothing is drawn, and the priority of a child is the probability of its path.

    In the greedy form of the paper, the slots of the whole tree come from one heap, with a draft
    pass for each. Here each level has one pass and a heap of its own.

    Attributes:
      width: W.
      length: L.
      threshold: a slot needs a priority above this value, else it stays empty. In [0, 1). With a
        positive threshold the target pass runs at the smallest of a few widths that holds the trees
        of the batch.

    Raises:
      ConfigError: a value is out of range.
    """

    method: ClassVar[str] = "dyspec"

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

    @property
    def sibling_laws(self) -> frozenset[SiblingLaw]:
        # A chain that may end early is none of K-SEQ's drafts, which are i.i.d. and of one length.
        if self.width == 1:
            return frozenset({SiblingLaw.SINGLE, SiblingLaw.WITHOUT_REPLACEMENT})
        return frozenset({SiblingLaw.WITHOUT_REPLACEMENT})

    def noise_rows(self, level: int) -> int:
        return self.shape.widths[level]

    def start(self, batch: int) -> jax.Array:
        """log value f32[B, 1] of the root."""
        return jnp.zeros((batch, 1), jnp.float32)

    def expand(
        self, level: int, carry: jax.Array, logprobs: jax.Array, noise: jax.Array | None
    ) -> tuple[Children, jax.Array]:
        value = carry.astype(logprobs.dtype)[..., None]
        batch, _, vocab = logprobs.shape
        contenders = min(self.width, vocab)
        scores, tokens = gumbel_top_k(logprobs, noise, contenders)
        own = jnp.take_along_axis(logprobs, tokens, axis=-1)
        if noise is None:
            priority = value + own
        else:
            drawn = jnp.cumsum(jnp.exp(own), axis=-1)
            before = jnp.pad(drawn[..., :-1], ((0, 0), (0, 0), (1, 0)))
            priority = value + jnp.log(jnp.maximum(1.0 - before, 0.0))
        priority = jnp.where(jnp.isfinite(scores), priority, -jnp.inf)
        # A node's priorities must not rise from child to child, not even by rounding. top_k is
        # stable, so no child is kept without its earlier siblings, and siblings stay in order.
        priority = jax.lax.cummin(priority, axis=2)
        kept, index = jax.lax.top_k(priority.reshape(batch, -1), self.width)
        valid = kept > (math.log(self.threshold) if self.threshold else -math.inf)
        values = jnp.take_along_axis((value + own).reshape(batch, -1), index, axis=1)
        children = Children(
            tokens=jnp.take_along_axis(tokens.reshape(batch, -1), index, axis=1),
            parents=(index // contenders).astype(jnp.int32),
            valid=valid,
            scores=kept,
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
                for choice in itertools.product(*(ordered_samples(q, self.width) for q in rows)):
                    chosen = [tokens for _, tokens in choice]
                    below = self._kept(nodes, chosen, values)
                    weight = math.prod(p for p, _ in choice)
                    tree = (*levels, below)
                    grown[tree] = grown.get(tree, 0.0) + probability * weight
            trees = grown
        for levels, probability in trees.items():
            yield probability, levels

    def _kept(
        self, nodes: list[Prefix], chosen: list[Prefix], values: dict[Prefix, float]
    ) -> tuple[Prefix | None, ...]:
        """The level below `nodes` whose draws are `chosen`."""
        slots: list[tuple[float, Prefix]] = []
        for node, tokens in zip(nodes, chosen, strict=True):
            priority = values[node]
            for x in tokens:
                slots.append((priority, (*node, x)))
                priority -= values[(*node, x)]
        slots.sort(key=lambda slot: -slot[0])
        kept = [child for priority, child in slots[: self.width] if priority > self.threshold]
        return (*kept, *[None] * (self.width - len(kept)))
