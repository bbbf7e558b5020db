"""Mixed siblings: the draft's likeliest token, and a token sampled without it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from rsd_jax.core.sampling import argmax, exclude, gumbel_top_k
from rsd_jax.core.tree import SiblingLaw, TreeShape
from rsd_jax.drafters import ModelDrafter, TreeRule
from rsd_jax.drafters.growth import Children
from rsd_jax.testing.drawn_trees import MixedSiblings

_LAWS = (SiblingLaw.POINT, SiblingLaw.WITHOUT_REPLACEMENT)


@dataclasses.dataclass(frozen=True)
class LikeliestFirst(TreeRule):
    """Two children per node: a point mass, then one draw from the law without that token."""

    length: int = 2

    @property
    def shape(self):
        return TreeShape.from_branching((2,) * self.length)

    @property
    def sibling_laws(self):
        return frozenset({SiblingLaw.MIXED})

    def drawn_trees(self, draft):
        return MixedSiblings(self.shape.branching, _LAWS).drawn_trees(draft)

    def noise_rows(self, level):
        return self.shape.widths[level]

    def start(self, batch):
        return jnp.ones((batch, 1), bool)

    def expand(self, level, carry, logprobs, noise):
        batch, width = logprobs.shape[:2]
        first = argmax(logprobs)
        left = jax.vmap(jax.vmap(exclude))(logprobs, first)
        scores, second = gumbel_top_k(left, noise, 1)
        found = jnp.stack([carry, carry & jnp.isfinite(scores[..., 0])], axis=-1)
        valid = found.reshape(batch, -1)
        codes = jnp.asarray([law.code for law in _LAWS], jnp.int8)
        children = Children(
            tokens=jnp.stack([first, second[..., 0]], axis=-1).reshape(batch, -1),
            parents=np.repeat(np.arange(width), 2)[None],
            valid=valid,
            scores=jnp.zeros(valid.shape, jnp.float32),
            laws=jnp.broadcast_to(jnp.tile(codes, width), valid.shape),
        )
        return children, valid


@dataclasses.dataclass(frozen=True)
class LikeliestFirstDrafter(ModelDrafter):
    """A draft model that grows trees by `LikeliestFirst`."""

    rule: TreeRule = LikeliestFirst()
