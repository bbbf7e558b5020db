"""RSD-C: every node of level l gets b_l children without replacement (Jeon et al. 2024, 3.2.1)."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from rsd_jax.core.sampling import gumbel_top_k
from rsd_jax.core.tree import SiblingLaw, TreeShape
from rsd_jax.drafters.growth import Children, TreeRule


@dataclasses.dataclass(frozen=True)
class ConstantBranching(TreeRule):
    """Gumbel-top-k children at every node; b = (1, ..., 1) is the single chain of SD.

    Attributes:
      branching: children per node of each level, b.
    """

    branching: tuple[int, ...]

    @property
    def shape(self) -> TreeShape:
        return TreeShape.from_branching(self.branching)

    @property
    def sibling_laws(self) -> frozenset[SiblingLaw]:
        # One draw per node is all of these.
        if max(self.branching) == 1:
            return frozenset({SiblingLaw.SINGLE, SiblingLaw.IID, SiblingLaw.WITHOUT_REPLACEMENT})
        return frozenset({SiblingLaw.WITHOUT_REPLACEMENT})

    def noise_rows(self, level: int) -> int:
        return self.shape.widths[level]

    def start(self, batch: int) -> jax.Array:
        """Which nodes of the level are valid."""
        return jnp.ones((batch, 1), bool)

    def expand(
        self, level: int, carry: jax.Array, logprobs: jax.Array, noise: jax.Array | None
    ) -> tuple[Children, jax.Array]:
        batch, width = logprobs.shape[:2]
        scores, tokens = gumbel_top_k(logprobs, noise, self.branching[level])
        valid = (jnp.isfinite(scores) & carry[..., None]).reshape(batch, -1)
        children = Children(
            tokens=tokens.reshape(batch, -1),
            parents=np.repeat(np.arange(width), self.branching[level])[None],
            valid=valid,
            scores=scores.reshape(batch, -1),
        )
        return children, valid
