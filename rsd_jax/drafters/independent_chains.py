"""SpecTr's drafts: K independent chains of length L (Sun et al. 2023, section 4)."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from rsd_jax.core.sampling import gumbel_top_k
from rsd_jax.core.tree import MOST_NODES, SiblingLaw, TreeShape
from rsd_jax.drafters.growth import Children, TreeRule
from rsd_jax.errors import positive_integer


@dataclasses.dataclass(frozen=True)
class IndependentChains(TreeRule):
    """K i.i.d. chains; equal chains are not merged, as K-SEQ counts multiplicities.

    Attributes:
      num_drafts: number of chains, K.
      length: tokens of each chain, L.
    """

    method: ClassVar[str] = "spectr"
    verifier: ClassVar[str] = "k_seq"

    num_drafts: int
    length: int

    def __post_init__(self):
        for name in ("num_drafts", "length"):
            value = positive_integer(name, getattr(self, name), most=MOST_NODES)
            object.__setattr__(self, name, value)

    @property
    def shape(self) -> TreeShape:
        return TreeShape.from_branching((self.num_drafts,) + (1,) * (self.length - 1))

    @property
    def words(self) -> str:
        return f"{self.num_drafts}x{self.length}" if self.num_drafts > 1 else super().words

    @property
    def sibling_laws(self) -> frozenset[SiblingLaw]:
        if self.num_drafts == 1:
            return frozenset({SiblingLaw.SINGLE, SiblingLaw.IID, SiblingLaw.WITHOUT_REPLACEMENT})
        return frozenset({SiblingLaw.IID})

    def noise_rows(self, level: int) -> int:
        return self.num_drafts

    def start(self, batch: int) -> jax.Array:
        """bool[B, K], which chains are valid so far."""
        return jnp.ones((batch, self.num_drafts), bool)

    def expand(
        self, level: int, carry: jax.Array, logprobs: jax.Array, noise: jax.Array | None
    ) -> tuple[Children, jax.Array]:
        batch, width, vocab = logprobs.shape
        # At the root all chains draw from one law.
        laws = jnp.broadcast_to(logprobs, (batch, self.num_drafts, vocab))
        scores, tokens = gumbel_top_k(laws, noise, 1)
        valid = jnp.isfinite(scores[..., 0]) & carry
        children = Children(
            tokens=tokens[..., 0],
            parents=(np.arange(self.num_drafts) % width)[None],
            valid=valid,
            scores=scores[..., 0],
        )
        return children, valid
