"""Self-drafting with the target's first k layers and the target's cache, without its own cache."""

import dataclasses

import jax.numpy as jnp

from rsd_jax.drafters.growth import RuleDrafter, grow_tree


@dataclasses.dataclass(frozen=True)
class FirstLayersDrafter(RuleDrafter):
    """Grows any tree; drafting skips the layers after the first k.

    The first layers' keys and values do not depend on later layers, so the target's cache holds
    them for committed tokens. The drafter has a scratch for drafted tokens.

    Attributes:
      layers: number of kept layers, k.
    """

    layers: int = 1

    def init(self, models, batch, capacity):
        return models.target.init_scratch(batch, self.shape.num_internal)

    def draft(self, models, params, state, context, warp, keys):
        model, shape = models.target, self.shape
        batch = context.length.shape[0]
        skipped = jnp.arange(model.num_layers, dtype=jnp.int32) >= self.layers
        skips = jnp.broadcast_to(skipped[:, None], (model.num_layers, 2))
        root = jnp.take_along_axis(context.tokens, context.length[:, None] - 1, axis=1)[:, 0]

        def score_level(level, tokens, visible, scratch):
            positions = jnp.broadcast_to(context.length[:, None] - 1 + level, tokens.shape)
            return model.forward(
                params.target,
                tokens,
                positions,
                context.target_cache,
                scratch,
                slot=shape.starts[level],
                mask=visible[:, :, : shape.num_internal],
                skips=skips,
            )

        assert state.keys[0].shape[0] == batch
        return grow_tree(self.rule, score_level, state, root, warp=warp, keys=keys)
