"""The model passes of a block without the rest of the block, in a loop like the fused loop."""

import functools

import jax
import jax.numpy as jnp

from rsd_jax.core.types import LanguageModel
from rsd_jax.drafters.base import ModelParams
from rsd_jax.drafters.model import ModelDrafter
from rsd_jax.engine.phases import Engine
from rsd_jax.engine.state import DecodeState


def _passes(engine: Engine) -> list[tuple[LanguageModel, str, int, int]]:
    """(model, which, queries, scratch slots) of every model pass of a block."""
    shape, models = engine.drafter.shape, engine.models
    passes = [(models.target, "target", shape.num_nodes, shape.num_nodes)]
    if isinstance(engine.drafter, ModelDrafter):
        assert models.draft is not None
        for level in range(shape.depth):
            queries = shape.widths[level] + (level == 0)
            passes.append((models.draft, "draft", queries, 1 + shape.num_internal))
    return passes


@functools.partial(jax.jit, static_argnames=("engine",))
def forwards(
    engine: Engine, params: ModelParams, state: DecodeState, blocks: jax.Array
) -> jax.Array:
    """Only the model passes of `blocks` blocks.

    Args:
      engine: its drafter drafts with a draft model, or not at all; static.
      params: of the models.
      state: in the middle of decoding; not changed.
      blocks: i32[].

    Returns:
      i32[B], which depends on every pass.
    """
    batch = state.length.shape[0]

    def one_block(_step: jax.Array, carry: jax.Array) -> jax.Array:
        for model, which, queries, slots in _passes(engine):
            cache = state.target_cache if which == "target" else state.drafter.cache
            # Tokens depend on the previous pass, so that the compiler cannot hoist or merge passes.
            tokens = jnp.broadcast_to(carry[:, None] % 2, (batch, queries))
            positions = jnp.broadcast_to(cache.length[:, None], (batch, queries))
            mask = jnp.ones((1, queries, slots), bool)
            wanted = slice(1, None) if which == "draft" and queries == 2 else slice(None)
            logits, _unused = model.forward(
                getattr(params, which),
                tokens,
                positions,
                cache,
                model.init_scratch(batch, slots),
                slot=0,
                mask=mask,
                logits_for=wanted,
            )
            carry = carry + (logits[:, -1, 0] > 0).astype(jnp.int32)
        return carry

    return jax.lax.fori_loop(0, blocks, one_block, jnp.zeros((batch,), jnp.int32))
