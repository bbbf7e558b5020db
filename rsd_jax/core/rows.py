"""Writes of one slice per row, each at a position of its own."""

import jax
import jax.numpy as jnp


def write_rows(buffer: jax.Array, update: jax.Array, start: jax.Array, *, axis: int) -> jax.Array:
    """The buffer with a slice of every row replaced.

    Unrolled over the rows, one `dynamic_update_slice` each. A vmapped one is a scatter, which
    compilers for CPUs and TPUs turn into a serial loop over the rows.

    Args:
      buffer: dtype[B, ...], written in place where the compiler may.
      update: dtype[B, ...], of the buffer's sizes but for `axis`.
      start: i32[B], first index of each row's slice along `axis`. A slice must end inside the
        buffer, or its write would be moved.
      axis: static, above 0.
    """
    for row in range(buffer.shape[0]):
        indices: list[jax.Array | int] = [0] * buffer.ndim
        indices[0], indices[axis] = row, jax.lax.index_in_dim(start, row, keepdims=False)
        at = [jnp.asarray(index, start.dtype) for index in indices]
        buffer = jax.lax.dynamic_update_slice(buffer, update[row : row + 1], at)
    return buffer
