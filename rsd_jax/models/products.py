"""Products of a few rows with a weight matrix, written so that XLA computes them fast on a CPU.

The result is that of `jax.lax.dot_general` up to rounding, which depends on the number of cores.
Times are of two cores of an Intel Xeon with weights larger than the caches (docs/benchmarks.md).
"""

import functools
import math
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

# Smaller matrices gain nothing.
_SPLIT_FROM = 100_000
# For larger matrices the plain product is as fast.
_SPLIT_UP_TO = 5_000_000
_MAX_PARTS = 8

_FEW_ROWS = range(3, 8)
_FEW_ROWS_FROM = 300_000


def dot_general(
    x: jax.Array, weights: jax.Array, dimension_numbers: Any, **options: Any
) -> jax.Array:
    """The product of x f32[..., d] and weights f32[d, out], for `flax.linen.Dense`.

    Other dtypes and contractions are left to `jax.lax.dot_general`, which takes the same arguments.

    - One row: XLA does not use all cores well for a matrix of up to about 5 million elements. The
      products of parts of d are a batch, whose elements run on different cores (all layers of
      SmolLM2: 15 instead of 20 ms).
    - Three to seven rows: XLA gives the product to YNNPACK, which first rearranges the whole
      matrix. If the left side is transposed, XLA takes Eigen (five rows: 26 instead of 32 ms).
      The barrier keeps XLA from undoing the transposition.
    """
    plain: Callable[..., jax.Array] = functools.partial(jax.lax.dot_general, **options)
    matrix = dimension_numbers == (((x.ndim - 1,), (0,)), ((), ())) and weights.ndim == 2
    if not (matrix and x.dtype == weights.dtype == jnp.float32):
        return plain(x, weights, dimension_numbers)
    *batch, depth = x.shape
    rows, size = math.prod(batch), weights.size
    parts = math.gcd(_cores(), depth)
    if rows == 1 and parts > 1 and _SPLIT_FROM <= size <= _SPLIT_UP_TO:
        sliced = x.reshape(parts, depth // parts)
        stacked = weights.reshape(parts, depth // parts, -1)
        y = plain(sliced, stacked, (((1,), (1,)), ((0,), (0,)))).sum(0)
    elif rows in _FEW_ROWS and size >= _FEW_ROWS_FROM:
        transposed = jax.lax.optimization_barrier(x.reshape(rows, depth).T)
        y = plain(transposed, weights, (((0,), (0,)), ((), ())))
    else:
        return plain(x, weights, dimension_numbers)
    return y.reshape(*batch, -1)


@functools.cache
def _cores() -> int:
    """The largest power of two up to the number of cores that this process may use, at most 8."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(_MAX_PARTS, 2 ** ((available or 1).bit_length() - 1))
