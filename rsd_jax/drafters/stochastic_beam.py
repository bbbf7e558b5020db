"""RSD-S: a stochastic beam of width W (Jeon et al. 2024, 3.2.2; Kool et al. 2019)."""

import dataclasses

import jax
import jax.numpy as jnp

from rsd_jax.core.sampling import gumbel_top_k, truncated_gumbel
from rsd_jax.core.tree import SiblingLaw, TreeShape
from rsd_jax.drafters.growth import Children, TreeRule

_Beam = tuple[jax.Array, jax.Array]  # phi f32[B, w], G f32[B, w]


@dataclasses.dataclass(frozen=True)
class StochasticBeam(TreeRule):
    """Each level keeps the W prefixes with the largest perturbed log probability.

    The kept prefixes of a level, by descending G, are an ordered sample without replacement
    from the draft's law over prefixes. A node none of whose children are kept stays in the
    tree as a leaf.

    Attributes:
      width: W.
      length: L.
    """

    width: int
    length: int

    @property
    def shape(self) -> TreeShape:
        return TreeShape((1,) + (self.width,) * self.length)

    @property
    def sibling_laws(self) -> frozenset[SiblingLaw]:
        if self.width == 1:
            return frozenset({SiblingLaw.SINGLE, SiblingLaw.IID, SiblingLaw.WITHOUT_REPLACEMENT})
        return frozenset({SiblingLaw.WITHOUT_REPLACEMENT})

    def noise_rows(self, level: int) -> int:
        return self.shape.widths[level]

    def start(self, batch: int) -> _Beam:
        """phi, the log probability of the prefix, and G, its perturbed value."""
        return jnp.zeros((batch, 1), jnp.float32), jnp.zeros((batch, 1), jnp.float32)

    def expand(
        self, level: int, carry: _Beam, logprobs: jax.Array, noise: jax.Array | None
    ) -> tuple[Children, _Beam]:
        phi, bound = (x.astype(logprobs.dtype)[..., None] for x in carry)
        batch, _, vocab = logprobs.shape
        # G is monotone in g within a node, so a node's W largest g are all that can survive.
        contenders = min(self.width, vocab)
        g, tokens = gumbel_top_k(phi + logprobs, noise, contenders)
        child_phi = phi + jnp.take_along_axis(logprobs, tokens, axis=-1)
        if noise is None:
            scores = jnp.where(jnp.isfinite(bound), child_phi, -jnp.inf)
        else:
            scores = truncated_gumbel(g, g[..., :1], bound)
        # Within a node contenders stand by descending g and top_k is stable: equal G are
        # broken by g, and siblings come out in draw order.
        kept, index = jax.lax.top_k(scores.reshape(batch, -1), self.width)

        def keep(x: jax.Array) -> jax.Array:
            return jnp.take_along_axis(x.reshape(batch, -1), index, axis=1)

        valid = jnp.isfinite(kept)
        children = Children(
            tokens=keep(tokens),
            parents=(index // contenders).astype(jnp.int32),
            valid=valid,
            scores=kept,
        )
        return children, (jnp.where(valid, keep(child_phi), -jnp.inf), kept)
