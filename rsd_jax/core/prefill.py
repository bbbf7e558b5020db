"""Filling a cache from a token buffer, in chunks; one program serves all prompt lengths."""

import jax
import jax.numpy as jnp

from rsd_jax.core.types import KVCache, LanguageModel, Params

PREFILL_CHUNK = 64
"""Tokens of one prefill pass; a batch takes as many passes as its longest prompt needs."""


def prefill_cache(
    model: LanguageModel,
    params: Params,
    cache: KVCache,
    tokens: jax.Array,
    count: jax.Array,
) -> KVCache:
    """Commits the first `count` tokens of every row to the cache; computes no logits.

    Args:
      model: static.
      params: of the model.
      cache: empty, of capacity at least the largest count + PREFILL_CHUNK.
      tokens: i32[B, T], where T is at least the largest count.
      count: i32[B], may differ between rows and may be 0.

    Returns:
      the cache, of length `count`.
    """
    batch, width = tokens.shape[0], min(PREFILL_CHUNK, tokens.shape[1])
    causal = jnp.tril(jnp.ones((1, width, width), bool))
    slots = jnp.broadcast_to(jnp.arange(width, dtype=jnp.int32), (batch, width))
    scratch = model.init_scratch(batch, width)

    def chunk(index: jax.Array, carry):
        cache, scratch = carry
        positions = index * width + slots
        # The last chunk may reach past the buffer or the row; what it reads there is not committed.
        inside = jnp.minimum(positions, tokens.shape[1] - 1)
        fed = jnp.take_along_axis(tokens, inside, axis=1)
        _, scratch = model.forward(
            params, fed, positions, cache, scratch, slot=0, mask=causal, logits_for=slice(0, 0)
        )
        kept = jnp.clip(count - index * width, 0, width)
        return model.commit(cache, scratch, slots, cache.length, kept), scratch

    num_chunks = (count.max() + width - 1) // width
    return jax.lax.fori_loop(0, num_chunks, chunk, (cache, scratch))[0]
