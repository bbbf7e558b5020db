"""Randomness and laws: keys, Gumbel draws, truncated Gumbels, residuals.

A law is a probability distribution over the tokens.

Numeric policy: probabilities are float32 (float64 if the caller's logits are), never bfloat16.
Filtered tokens have log probability minus infinity exactly. Every categorical draw is an argmax
of log probabilities plus Gumbel noise, and the noise resolves the tail (see `gumbels`).
"""

import enum
import math

import jax
import jax.numpy as jnp

from rsd_jax.core.threefry import Words, as_keys, fold_in, key_words, random_words

_UNIT = 2.0**-24


class Purpose(enum.IntEnum):
    """What a random number is drawn for; two purposes never share a key.

    A block draws either a token of the residual or a bonus token, never both, so `EMIT` serves
    both.
    """

    DRAFT = 0
    ACCEPT = 1
    EMIT = 2


def row_keys(seed: jax.Array | int, request_ids: jax.Array) -> jax.Array:
    """key[B]: one key per row, from (seed, request id), whatever the row's place in the batch."""
    seeded = key_words(jax.random.key(seed, impl="threefry2x32"))
    words = tuple(jnp.broadcast_to(word, request_ids.shape) for word in seeded)
    return as_keys(fold_in((words[0], words[1]), request_ids))


def block_keys(rows: jax.Array, block: jax.Array) -> jax.Array:
    """The keys of the current blocks: key[B] of rows and their i32[B] block counters to key[B]."""
    return as_keys(fold_in(key_words(rows), block))


def _words(keys: jax.Array, purpose: Purpose, size: int, first: jax.Array | int = 0) -> Words:
    """64 bits for each of `size` places of every row: key[B] to two u32[B, size]."""
    return random_words(fold_in(key_words(keys), purpose), size, first)


def _as_float(bits: jax.Array) -> jax.Array:
    """The upper 24 bits of u32[...] as an integer in float32, exactly."""
    return (bits >> jnp.uint32(8)).astype(jnp.float32)


def uniforms(keys: jax.Array, purpose: Purpose, size: int) -> jax.Array:
    """f32[B, size] uniform on [0, 1); entry i of a row depends only on the row's key and i."""
    return _as_float(_words(keys, purpose, size)[0]) * _UNIT


def gumbels(
    keys: jax.Array, purpose: Purpose, shape: tuple[int, ...], first: jax.Array | int = 0
) -> jax.Array:
    """f32[B, *shape] standard Gumbel noise with a resolved tail.

    The numbers of a row form one sequence, and the result starts at number `first` of it (an int
    or i32[]). A loop can therefore draw the same numbers as a single call.

    The noise is -log(E) of an exponential E = -log(1 - u), where u has 24 significant bits down to
    2^-48, so the noise is resolved up to 33. Noise from a plain float32 uniform ends at 16, which
    biases a draw from 32000 tokens by 2e-3 in total variation.
    """
    high, low = _words(keys, purpose, math.prod(shape), first)
    u = (_as_float(high) + (_as_float(low) + 0.5) * _UNIT) * _UNIT
    # The largest u would round to 1, where the noise is -inf.
    noise = -jnp.log(-jnp.log1p(-jnp.minimum(u, 1.0 - _UNIT)))
    return noise.reshape(keys.shape[0], *shape)


def gumbel_top_k(
    logprobs: jax.Array, noise: jax.Array | None, k: int
) -> tuple[jax.Array, jax.Array]:
    """An ordered sample of k tokens without replacement (Vieira 2014; Kool et al. 2019).

    Args:
      logprobs: f32[..., V].
      noise: standard Gumbel f32[..., V], or None for the k most likely tokens, where the lower id
        wins a tie.
      k: number of tokens, static.

    Returns:
      perturbed values f32[..., k] in descending order and tokens i32[..., k]. Where the support
      is smaller than k, the excess values are -inf.
    """
    perturbed = logprobs if noise is None else logprobs + noise
    if k == 1:
        values = perturbed.max(-1, keepdims=True)
        return values, argmax(perturbed)[..., None]
    # Reshaped to a matrix: XLA on CPU has a fast top-k for rank 2, and sorts the vocabulary for
    # other ranks.
    rows = perturbed.reshape(-1, perturbed.shape[-1])
    values, tokens = jax.lax.top_k(rows, k)
    shape = (*perturbed.shape[:-1], k)
    return values.reshape(shape), tokens.astype(jnp.int32).reshape(shape)


def argmax(x: jax.Array) -> jax.Array:
    """i32[...] of f32[..., V]: lowest index of the maximum; V - 1 if there is a NaN.

    Two plain reductions compute it. They vectorise, unlike the reduction of `jnp.argmax` that
    carries an index (4 x as fast on CPU).
    """
    size = x.shape[-1]
    index = jax.lax.broadcasted_iota(jnp.int32, x.shape, x.ndim - 1)
    first = jnp.where(x == x.max(-1, keepdims=True), index, size - 1)
    return first.min(-1)


def log1mexp(x: jax.Array) -> jax.Array:
    """log(1 - exp(x)) for x <= 0, accurate at both ends (Maechler 2012)."""
    return jnp.where(x > -0.6931472, jnp.log(-jnp.expm1(x)), jnp.log1p(-jnp.exp(x)))


def truncated_gumbel(g: jax.Array, largest: jax.Array, bound: jax.Array) -> jax.Array:
    """Gumbels conditioned on their maximum being `bound` (Kool et al. 2019, appendix B.3).

    Computes -log(exp(-bound) - exp(-largest) + exp(-g)) stably. The result is monotone in g, and
    the largest g becomes exactly `bound`.

    Args:
      g: perturbed log probabilities of the children of one node; -inf where impossible.
      largest: the maximum of all the node's g.
      bound: the node's own perturbed value.

    Returns:
      The truncated values; -inf where `g` or `bound` is not finite.
    """
    possible = jnp.isfinite(g) & jnp.isfinite(bound)
    safe_g = jnp.where(possible, g, 0.0)
    safe_largest = jnp.where(possible, largest, 0.0)
    v = bound - safe_g + log1mexp(safe_g - safe_largest)
    value = bound - jnp.maximum(0.0, v) - jnp.log1p(jnp.exp(-jnp.abs(v)))
    return jnp.where(possible, value, -jnp.inf)


def is_law(logprobs: jax.Array) -> jax.Array:
    """bool[...]: whether log probabilities f32[..., V] define a law: no NaN, not all -inf."""
    return jnp.isfinite(logprobs.max(-1))


def residual(r: jax.Array, q: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The residual N[(r - q)+] over the last axis, and its mass before normalisation f32[..., 1].

    N normalises. Where the mass is exactly 0, the residual is undefined (NaN), and the caller must
    accept the token that it tests.
    """
    excess = jnp.maximum(r - q, 0.0)
    mass = excess.sum(-1, keepdims=True)
    return excess / mass, mass


def exclude(log_q: jax.Array, tokens: jax.Array) -> jax.Array:
    """The law log q without some tokens: in log space, never by 1 - (drawn mass).

    Args:
      log_q: f32[V].
      tokens: i32[n]; V stands for no token.
    """
    return jax.nn.log_softmax(log_q.at[tokens].set(-jnp.inf, mode="drop"))
