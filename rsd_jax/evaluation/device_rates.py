"""What a device reaches at best: the bandwidth of a copy and rates of products."""

import statistics

import jax
import jax.numpy as jnp

from rsd_jax.evaluation.stopwatch import timed

_PRODUCTS = 8  # of one timed call, so that the call itself takes a small part of the time


def copy_bandwidth(megabytes: int, repeats: int = 10) -> float:
    """Bytes per second that the device reads plus writes when it adds 1 to an array in place."""
    array = jnp.zeros((megabytes * 2**18,), jnp.float32)
    add = jax.jit(lambda x: x + 1.0, donate_argnums=(0,))
    array = jax.block_until_ready(add(array))
    times = []
    for _ in range(repeats):
        array, seconds = timed(add, array)
        times.append(seconds)
    return 2 * array.nbytes / statistics.median(times)


def matmul_rate(size: int, repeats: int = 10) -> float:
    """Floating point operations per second of products of two bfloat16[size, size].

    The matrices are random: some devices multiply zeros faster.
    """
    left, right = jax.random.split(jax.random.key(0))
    deviation = size**-0.5  # the products keep their scale
    first = jax.random.normal(left, (size, size), jnp.bfloat16)
    second = deviation * jax.random.normal(right, (size, size), jnp.bfloat16)

    @jax.jit
    def multiply(first: jax.Array, second: jax.Array) -> jax.Array:
        for _ in range(_PRODUCTS):
            first = jnp.matmul(first, second)
        return first

    jax.block_until_ready(multiply(first, second))
    times = [timed(multiply, first, second)[1] for _ in range(repeats)]
    return _PRODUCTS * 2 * size**3 / statistics.median(times)


def vector_product_seconds(
    numbers: int, dtype: jax.typing.DTypeLike = jnp.float32, repeats: int = 10
) -> float:
    """Seconds of the product of one vector with one matrix of about so many numbers.

    It reads as much as a pass over one token of a model with so many parameters.
    """
    depth = 1024
    matrix = jnp.ones((depth, max(1, numbers // depth)), dtype)
    vector = jnp.ones((1, depth), dtype)
    multiply = jax.jit(jnp.matmul)
    jax.block_until_ready(multiply(vector, matrix))
    return statistics.median(timed(multiply, vector, matrix)[1] for _ in range(repeats))
