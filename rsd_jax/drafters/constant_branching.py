"""RSD-C: every node of level l gets b_l children without replacement (Jeon et al. 2024, 3.2.1)."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from rsd_jax.core.sampling import gumbel_top_k
from rsd_jax.core.tree import SiblingLaw, TreeShape
from rsd_jax.drafters.growth import Children, TreeRule
from rsd_jax.errors import ConfigError, positive_integer


@dataclasses.dataclass(frozen=True)
class ConstantBranching(TreeRule):
    """Gumbel-top-k children at every node; b = (1, ..., 1) is the single chain of SD.

    Attributes:
      branching: children per node of each level, b.
    """

    method: ClassVar[str] = "rsd_c"

    branching: tuple[int, ...]

    def __post_init__(self):
        counts = self.branching
        is_list = isinstance(counts, (Sequence, np.ndarray)) and not isinstance(counts, str)
        if not is_list or len(counts) == 0:
            raise ConfigError(
                f"branching={counts!r} must be a sequence of child counts, one per level, "
                "e.g. (2, 2, 1)"
            )
        checked = (positive_integer(f"branching[{i}]", count) for i, count in enumerate(counts))
        object.__setattr__(self, "branching", tuple(checked))

    @property
    def shape(self) -> TreeShape:
        return TreeShape.from_branching(self.branching)

    @property
    def sibling_laws(self) -> frozenset[SiblingLaw]:
        # A single draw per node fits all of these.
        if max(self.branching) == 1:
            return frozenset({SiblingLaw.SINGLE, SiblingLaw.IID, SiblingLaw.WITHOUT_REPLACEMENT})
        return frozenset({SiblingLaw.WITHOUT_REPLACEMENT})

    def noise_rows(self, level: int) -> int:
        return self.shape.widths[level]

    def start(self, batch: int) -> jax.Array:
        """bool[B, 1], which nodes of the level are valid."""
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
