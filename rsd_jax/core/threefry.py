"""Threefry-2x32 (Salmon et al. 2011), the function behind JAX's keys, without a loop.

On CPUs, JAX runs the rounds in a loop whose steps take longer than their arithmetic, and a draw of
32 bits throws away half of the computed bits. Here the rounds are unrolled, so that they fuse with
the computation that uses the bits, and all 64 bits are returned. The keys are JAX's own keys:
`fold_in` gives the same key as `jax.random.fold_in`.
"""

import jax
import jax.numpy as jnp

Words = tuple[jax.Array, jax.Array]
"""Two u32 arrays of one shape: a key, or 64 random bits."""

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA


def key_words(keys: jax.Array) -> Words:
    """The words of threefry keys: key[...] to two u32[...]."""
    data = jax.random.key_data(keys)
    return data[..., 0], data[..., 1]


def as_keys(words: Words) -> jax.Array:
    """Inverse of `key_words`: two u32[...] to key[...]."""
    return jax.random.wrap_key_data(jnp.stack(words, axis=-1), impl="threefry2x32")


def threefry(key: Words, counter: Words) -> Words:
    """64 random bits for every counter, by 20 rounds of Threefry-2x32.

    Args:
      key: two u32[...], of the same rank as the counter.
      counter: two u32[...].

    Returns:
      two u32[...], of the shape to which key and counter broadcast.
    """
    schedule = (*key, key[0] ^ key[1] ^ jnp.uint32(_PARITY))
    x, y = counter[0] + schedule[0], counter[1] + schedule[1]
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x = x + y
            y = x ^ _rotate_left(y, rotation)
        x = x + schedule[(group + 1) % 3]
        y = y + schedule[(group + 2) % 3] + jnp.uint32(group + 1)
    return x, y


def _rotate_left(x: jax.Array, bits: int) -> jax.Array:
    return (x << jnp.uint32(bits)) | (x >> jnp.uint32(32 - bits))


def fold_in(key: Words, data: jax.Array | int) -> Words:
    """The words of `jax.random.fold_in(key, data)`: data u32[] or of the key's shape."""
    low = jnp.broadcast_to(jnp.asarray(data).astype(jnp.uint32), key[0].shape)
    return threefry(key, (jnp.zeros_like(low), low))


def random_words(key: Words, size: int, first: jax.Array | int = 0) -> Words:
    """64 random bits for each of `size` places; keys of shape [B] give two u32[B, size].

    The bits of place i depend only on the key and i. The places are numbered from `first` on, an
    int or i32[].
    """
    places = jnp.arange(size, dtype=jnp.uint32) + jnp.asarray(first).astype(jnp.uint32)
    place = jnp.broadcast_to(places, (*key[0].shape, size))
    return threefry((key[0][..., None], key[1][..., None]), (jnp.zeros_like(place), place))
