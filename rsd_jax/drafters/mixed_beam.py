"""A beam with one drawn child at each node, between the likeliest children."""

import dataclasses
from collections.abc import Iterator
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from rsd_jax.core.sampling import exclude, gumbel_top_k, log1mexp
from rsd_jax.core.tree import SiblingLaw
from rsd_jax.drafters.priority_tree import Contenders, PriorityTree, Siblings

_DRAWN = 1  # rank of the drawn child among its siblings


@dataclasses.dataclass(frozen=True)
class MixedBeam(PriorityTree):
    """Each level gets the W slots with the highest priority, of likeliest and of drawn children.

    The children of a node are, in this order, its likeliest token, a token drawn from the draft's
    law without that token, and the likeliest of the others. All but the drawn one are point masses.
    The priority of a point mass is the probability of its path. That of the drawn child, at a node
    of value v whose likeliest token has probability q, is v min(q, 1 - q), whatever the token is: a
    priority that looked at the drawn token would change the output law.

    At T = 0 the tree is that of `Beam`.

    Fields as in `PriorityTree`.
    """

    method: ClassVar[str] = "mixed_beam"

    @property
    def sibling_laws(self) -> frozenset[SiblingLaw]:
        if self.width <= _DRAWN:  # a chain of likeliest tokens
            return frozenset({SiblingLaw.POINT, SiblingLaw.SINGLE})
        return frozenset({SiblingLaw.MIXED})

    def law_of_rank(self, rank: int) -> SiblingLaw:
        return SiblingLaw.WITHOUT_REPLACEMENT if rank == _DRAWN else SiblingLaw.POINT

    def noise_rows(self, level: int) -> int:
        return self.shape.widths[level]

    def contenders(
        self, logprobs: jax.Array, value: jax.Array, noise: jax.Array | None
    ) -> Contenders:
        fixed = super().contenders(logprobs, value, None)
        if noise is None or fixed.tokens.shape[-1] <= _DRAWN:
            return fixed
        likeliest = fixed.own[..., :_DRAWN]
        left = jax.vmap(jax.vmap(exclude))(logprobs, fixed.tokens[..., 0])
        exists, drawn = gumbel_top_k(left, noise, 1)
        rest = log1mexp(jnp.minimum(likeliest, 0.0))
        of_drawn = jnp.where(jnp.isfinite(exists), jnp.minimum(likeliest, rest), -jnp.inf)
        # The likeliest tokens without the first and the drawn one, which may be none of them.
        is_drawn = fixed.tokens[..., _DRAWN:] == drawn
        passed = jnp.cumsum(is_drawn[..., :-1], axis=-1, dtype=jnp.int32)
        others = jnp.arange(_DRAWN, is_drawn.shape[-1], dtype=jnp.int32)[None, None] + passed

        def children(of_fixed: jax.Array, of_drawn: jax.Array) -> jax.Array:
            of_others = jnp.take_along_axis(of_fixed, others, axis=-1)
            return jnp.concatenate([of_fixed[..., :_DRAWN], of_drawn, of_others], axis=-1)

        return Contenders(
            children(fixed.tokens, drawn),
            children(fixed.own, jnp.take_along_axis(logprobs, drawn, axis=-1)),
            children(fixed.priority, value + of_drawn),
        )

    def siblings(self, law: np.ndarray) -> Iterator[tuple[float, Siblings]]:
        first, *rest = np.argsort(-law, kind="stable").tolist()
        q, left = float(law[first]), float(law[rest].sum())
        if self.width <= _DRAWN or left == 0.0:
            yield 1.0, [(q, first)]
            return
        for drawn in (x for x in rest if law[x] > 0.0):
            others = [(float(law[x]), x) for x in rest if x != drawn]
            yield law[drawn] / left, [(q, first), (min(q, 1.0 - q), drawn), *others]
