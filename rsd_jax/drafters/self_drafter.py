"""Drafting any tree with the target itself, with sub-layers skipped."""

import dataclasses

import jax
import jax.numpy as jnp

from rsd_jax.core.tree import DraftTree
from rsd_jax.core.types import Scratch
from rsd_jax.core.warp import Warp
from rsd_jax.drafters.base import DraftContext, ModelParams, Models
from rsd_jax.drafters.growth import RuleDrafter, grow_tree


@dataclasses.dataclass(frozen=True)
class SelfDrafter(RuleDrafter):
    """Grows any tree with the layer-skipping target (Xia et al. 2025); L passes for L levels.

    The committed prefix is read from the target's cache, with keys and values of the whole model.
    Draft-mode keys and values of the root and the drafted tokens go to a scratch, which is not
    kept, as the target pass computes its own. Nothing is prefilled and nothing committed.
    """

    @property
    def needs_skips(self) -> bool:
        return True

    def init(self, models: Models, batch: int, capacity: int) -> Scratch:
        return models.target.init_scratch(batch, self.shape.num_internal)

    def draft(
        self,
        models: Models,
        params: ModelParams,
        state: Scratch,
        context: DraftContext,
        warp: Warp,
        keys: jax.Array,
    ) -> tuple[DraftTree, Scratch]:
        shape, n = self.shape, context.length[:, None]
        root = jnp.take_along_axis(context.tokens, n - 1, axis=1)[:, 0]

        def score_level(level: int, tokens: jax.Array, visible: jax.Array, scratch: Scratch):
            return models.target.forward(
                params.target,
                tokens,
                jnp.broadcast_to(n - 1 + level, tokens.shape),
                context.target_cache,
                scratch,
                slot=shape.starts[level],
                mask=visible[:, :, : shape.num_internal],
                skips=params.skips,
            )

        return grow_tree(
            self.rule,
            score_level,
            state,
            root,
            active=context.active,
            warp=warp,
            keys=keys,
        )
