"""Filling a cache from a token buffer, in chunks; one program serves all prompt lengths."""

import jax
import jax.numpy as jnp

from rsd_jax.core.types import KVCache, LanguageModel, Params, Scratch

PREFILL_CHUNK = 64
"""Tokens of one prefill pass; a batch takes as many passes as its longest prompt needs."""


def prefill_cache(
    model: LanguageModel,
    params: Params,
    cache: KVCache,
    tokens: jax.Array,
    count: jax.Array,
    chunk: int = PREFILL_CHUNK,
) -> KVCache:
    """Commits those of the first `count` tokens of every row that the cache lacks.

    Computes no logits.

    Args:
      model: static.
      params: of the model.
      cache: of capacity at least the largest count + `chunk`; empty, or with the first tokens.
      tokens: i32[B, T], where T is at least the largest count.
      count: i32[B], may differ between rows; a row whose cache is as long or longer stays as it is.
      chunk: tokens of one pass; static.

    Returns:
      the cache, of length `count` at least.
    """
    batch, width = tokens.shape[0], min(chunk, tokens.shape[1])
    causal = jnp.tril(jnp.ones((1, width, width), bool))
    slots = jnp.broadcast_to(jnp.arange(width, dtype=jnp.int32), (batch, width))
    scratch = model.init_scratch(batch, width)

    def incomplete(carry) -> jax.Array:
        return (carry[0].length < count).any()

    def take_in(carry):
        cache, scratch = carry
        positions = cache.length[:, None] + slots
        # The last chunk may reach past the buffer or the row; what it reads there is not committed.
        inside = jnp.minimum(positions, tokens.shape[1] - 1)
        fed = jnp.take_along_axis(tokens, inside, axis=1)
        _, scratch = model.forward(
            params, fed, positions, cache, scratch, slot=0, mask=causal, logits_for=slice(0, 0)
        )
        kept = jnp.clip(count - cache.length, 0, width)
        after_reads = slots + _zero_of(scratch)
        return model.commit(cache, scratch, after_reads, cache.length, kept), scratch

    return jax.lax.while_loop(incomplete, take_in, (cache, scratch))[0]


def _zero_of(scratch: Scratch) -> jax.Array:
    """0, i32[], as a number that depends on the last layer of a pass.

    Before that layer the pass has read all caches. Without such a number XLA may write a cache
    before an earlier layer has read it, and copies the whole buffer to be safe.
    """
    last = scratch.keys[-1].reshape(-1)[0]
    return jnp.minimum((last > 0).astype(jnp.int32), 0)
