"""Rotary position embedding, in the half-split layout of Hugging Face's Llama."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from rsd_jax.models.config import RopeConfig


def inverse_frequencies(rope: RopeConfig, head_dim: int) -> np.ndarray:
    """Angular frequency of each pair of dimensions, f32[K / 2], in radians per position."""
    exponent = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    frequencies = np.float32(1.0) / np.power(np.float32(rope.theta), exponent, dtype=np.float32)
    if rope.kind == "linear":
        return frequencies / np.float32(rope.factor)
    if rope.kind == "default":
        return frequencies
    # Llama 3.1: long wavelengths are stretched by `factor`, short wavelengths are kept; in between,
    # frequencies are interpolated linearly in the number of turns over the original context.
    turns = rope.original_max_position * frequencies / (2 * math.pi)
    smooth = (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor)
    smooth = np.clip(smooth, 0.0, 1.0)
    scaled = (1 - smooth) * frequencies / rope.factor + smooth * frequencies
    return scaled.astype(np.float32)


def rotation(
    rope: RopeConfig, head_dim: int, positions: jax.Array, dtype: jax.typing.DTypeLike
) -> tuple[jax.Array, jax.Array]:
    """Cosines and sines for `positions` i32[B, Q]: two dtype[B, Q, 1, K / 2].

    `dtype` must be float32 or wider: bfloat16 angles are off by whole turns at position 1000.
    """
    frequencies = jnp.asarray(inverse_frequencies(rope, head_dim), dtype)
    angles = positions[..., None, None].astype(dtype) * frequencies[None, None, None]
    return jnp.cos(angles), jnp.sin(angles)


def rotate(x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    """Rotates x dtype[B, Q, heads, K]; dimension i pairs with i + K / 2."""
    cos, sin = cos.astype(x.dtype), sin.astype(x.dtype)
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
