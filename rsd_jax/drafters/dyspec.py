"""DySpec, level by level: slots go where the draft expects acceptance (Xiong et al. 2024)."""

import dataclasses
from collections.abc import Iterator
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from rsd_jax.core.sampling import gumbel_top_k
from rsd_jax.core.tree import SiblingLaw
from rsd_jax.drafters.priority_tree import Contenders, PriorityTree, Siblings
from rsd_jax.drafters.tree_law import ordered_samples


@dataclasses.dataclass(frozen=True)
class DySpecTree(PriorityTree):
    """Each level gets the W slots with the highest priority, for children without replacement.

    The value of a node is the probability of its path under the draft. The priority of a node's
    k-th child is the node's value times the probability that the draft leaves after the node's
    first k - 1 children. So whether a child is drawn depends on what was drawn before, never on
    the child's own token: ranking children by their own probability would change the output law.

    At T = 0 nothing is drawn, and the priority of a child is the probability of its path.

    In the greedy form of the paper, the slots of the whole tree come from one heap, with a draft
    pass for each. Here each level has one pass and a heap of its own.

    Fields as in `PriorityTree`.
    """

    method: ClassVar[str] = "dyspec"

    @property
    def sibling_laws(self) -> frozenset[SiblingLaw]:
        # A chain that may end early is none of K-SEQ's drafts, which are i.i.d. and of one length.
        if self.width == 1:
            return frozenset({SiblingLaw.SINGLE, SiblingLaw.WITHOUT_REPLACEMENT})
        return frozenset({SiblingLaw.WITHOUT_REPLACEMENT})

    def noise_rows(self, level: int) -> int:
        return self.shape.widths[level]

    def contenders(
        self, logprobs: jax.Array, value: jax.Array, noise: jax.Array | None
    ) -> Contenders:
        if noise is None:
            return super().contenders(logprobs, value, None)
        scores, tokens = gumbel_top_k(logprobs, noise, min(self.width, logprobs.shape[-1]))
        own = jnp.take_along_axis(logprobs, tokens, axis=-1)
        drawn = jnp.cumsum(jnp.exp(own), axis=-1)
        before = jnp.pad(drawn[..., :-1], ((0, 0), (0, 0), (1, 0)))
        priority = value + jnp.log(jnp.maximum(1.0 - before, 0.0))
        return Contenders(tokens, own, jnp.where(jnp.isfinite(scores), priority, -jnp.inf))

    def siblings(self, law: np.ndarray) -> Iterator[tuple[float, Siblings]]:
        for probability, tokens in ordered_samples(law, self.width):
            left, children = 1.0, []
            for x in tokens:
                children.append((left, x))
                left -= float(law[x])
            yield probability, children
