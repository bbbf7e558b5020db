"""Key/value buffers: allocation, and `commit_slots`, which alone writes committed positions."""

import jax
import jax.numpy as jnp

from rsd_jax.core.rows import write_rows
from rsd_jax.core.types import KVCache, Scratch


def empty_buffers(
    layers: int, shape: tuple[int, int, int, int], dtype: jnp.dtype
) -> tuple[jax.Array, ...]:
    """One zeroed dtype[B, H, S or M, K] per layer; separate buffers, so each can be donated."""
    return tuple(jnp.zeros(shape, dtype) for _ in range(layers))


def commit_slots(
    cache: KVCache, scratch: Scratch, slots: jax.Array, start: jax.Array, count: jax.Array
) -> KVCache:
    """See `LanguageModel.commit`. Entries from `count` on are written beyond the new length."""

    def write(buffer: jax.Array, source: jax.Array) -> jax.Array:
        update = jnp.take_along_axis(source, slots[:, None, :, None], axis=2)
        return write_rows(buffer, update.astype(buffer.dtype), start, axis=2)

    return KVCache(
        keys=tuple(map(write, cache.keys, scratch.keys)),
        values=tuple(map(write, cache.values, scratch.values)),
        length=start + count,
    )
