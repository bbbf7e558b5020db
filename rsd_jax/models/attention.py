"""Attention of a few queries over a long committed prefix and a small scratch of tree nodes.

The prefix is read in chunks with an online softmax (Milakov & Gimelshein 2018), so the cost
depends on the committed length and not on the capacity of the cache.
"""

import jax
import jax.numpy as jnp

from rsd_jax.core.backend import PrefixReads

_Running = tuple[jax.Array, jax.Array, jax.Array]  # max f32[B,H,G], sum f32[B,H,G], mix [B,H,G,K]


def accumulator(dtype: jax.typing.DTypeLike) -> jnp.dtype:
    """The dtype of sums over values of `dtype`: float64 for float64, else float32.

    A float64 model thus computes everything in float64, to tell a numerical tie from a defect.
    """
    return jnp.dtype(jnp.float64 if dtype == jnp.float64 else jnp.float32)


def _scores(queries: jax.Array, keys: jax.Array, visible: jax.Array) -> jax.Array:
    wide = accumulator(keys.dtype)
    scores = jnp.einsum("bhgk,bhsk->bhgs", queries, keys, preferred_element_type=wide)
    return jnp.where(visible, scores, -jnp.inf)


def _mix(weights: jax.Array, values: jax.Array) -> jax.Array:
    return jnp.einsum(
        "bhgs,bhsk->bhgk",
        weights.astype(values.dtype),
        values,
        preferred_element_type=accumulator(values.dtype),
    )


def _absorb(
    running: _Running, queries: jax.Array, keys: jax.Array, values: jax.Array, visible: jax.Array
) -> _Running:
    """One step of the online softmax; a chunk without visible keys does not change `running`."""
    top, total, mixed = running
    scores = _scores(queries, keys, visible)
    new_top = jnp.maximum(top, scores.max(-1))
    weights = jnp.exp(scores - new_top[..., None])
    shrink = jnp.exp(top - new_top)
    return (
        new_top,
        total * shrink + weights.sum(-1),
        mixed * shrink[..., None] + _mix(weights, values),
    )


def attend(
    queries: jax.Array,
    cache_keys: jax.Array,
    cache_values: jax.Array,
    length: jax.Array,
    scratch_keys: jax.Array,
    scratch_values: jax.Array,
    mask: jax.Array,
    *,
    reads: PrefixReads,
) -> jax.Array:
    """Grouped-query attention over the committed prefix and the visible scratch slots.

    Args:
      queries: dtype[B, Q, heads, K], already rotated.
      cache_keys, cache_values: dtype[B, H, S, K], where dtype may differ from the queries';
        positions below `length` are visible to all. S = 0 means that there is no prefix.
      length: i32[B].
      scratch_keys, scratch_values: dtype[B, H, M, K], the queries' own entries included.
      mask: bool[B or 1, Q, M], scratch slots visible to each query, its own included.
      reads: how the prefix is read.

    Returns:
      dtype[B, Q, heads, K], in the queries' dtype.
    """
    batch, num_queries, num_heads, head_dim = queries.shape
    kv_heads, capacity = cache_keys.shape[1:3]
    groups = num_heads // kv_heads
    # [B, H, G, K] with G = Q * groups: the queries that share a key/value head, as one matrix.
    folded = queries.reshape(batch, num_queries, kv_heads, groups, head_dim)
    folded = jnp.moveaxis(folded, 1, 2).reshape(batch, kv_heads, -1, head_dim)
    # Scaled before rounding to the buffers' type: bfloat16(1/sqrt(K)) is off by up to 0.4 %.
    folded = (folded.astype(accumulator(folded.dtype)) * head_dim**-0.5).astype(cache_keys.dtype)
    slot_visible = jnp.repeat(mask, groups, axis=1)[:, None]

    # The scratch comes first: a query sees itself, so the running maximum is always finite.
    scores = _scores(folded, scratch_keys, slot_visible)
    top = scores.max(-1)
    weights = jnp.exp(scores - top[..., None])
    running = (top, weights.sum(-1), _mix(weights, scratch_values))

    whole = capacity <= reads.whole_up_to
    size = capacity if whole else min(reads.chunk, capacity)

    def absorb_chunk(index: jax.Array | int, running: _Running) -> _Running:
        # If `chunk` does not divide the capacity, the last chunk starts earlier; the positions
        # that it repeats are masked.
        begin = jnp.minimum(index * size, capacity - size)
        position = begin + jnp.arange(size, dtype=jnp.int32)
        visible = (position >= index * size)[None, :] & (position[None, :] < length[:, None])
        keys = jax.lax.dynamic_slice_in_dim(cache_keys, begin, size, axis=2)
        values = jax.lax.dynamic_slice_in_dim(cache_values, begin, size, axis=2)
        return _absorb(running, folded, keys, values, visible[:, None, None, :])

    if capacity and whole:
        running = absorb_chunk(0, running)
    elif capacity:
        chunks = (length.max() + size - 1) // size
        running = jax.lax.fori_loop(0, chunks, absorb_chunk, running)
    _, total, mixed = running
    out = (mixed / total[..., None]).astype(queries.dtype)
    out = out.reshape(batch, kv_heads, num_queries, groups, head_dim)
    return jnp.moveaxis(out, 2, 1).reshape(batch, num_queries, num_heads, head_dim)
