"""Writes of one slice per row, each at a position of its own."""

import jax
import jax.numpy as jnp

_MOST_UNROLLED = 64  # rows; a program of more slices takes long to compile


def write_rows(buffer: jax.Array, update: jax.Array, start: jax.Array, *, axis: int) -> jax.Array:
    """The buffer with a slice of every row replaced.

    Unrolled over up to 64 rows, one `dynamic_update_slice` each. For more rows a vmapped one, which
    is a scatter: compilers for CPUs and TPUs turn a scatter into a serial loop over the rows.

    Args:
      buffer: dtype[B, ...], written in place where the compiler may.
      update: dtype[B, ...], of the buffer's sizes but for `axis`.
      start: i32[B], first index of each row's slice along `axis`. A slice must end inside the
        buffer, or its write would be moved.
      axis: static, above 0.
    """
    if buffer.shape[0] > _MOST_UNROLLED:
        return jax.vmap(lambda row, new, at: _write(row, new, at, axis - 1))(buffer, update, start)
    for row in range(buffer.shape[0]):
        at = jax.lax.index_in_dim(start, row, keepdims=False)
        buffer = _write(buffer, update[row : row + 1], at, axis, row)
    return buffer


def _write(
    buffer: jax.Array, update: jax.Array, at: jax.Array, axis: int, row: int = 0
) -> jax.Array:
    """The buffer with `update` at index `at` of `axis`, and at `row` of the first axis."""
    indices: list[jax.Array | int] = [0] * buffer.ndim
    indices[0], indices[axis] = row, at
    return jax.lax.dynamic_update_slice(buffer, update, [jnp.asarray(i, at.dtype) for i in indices])
