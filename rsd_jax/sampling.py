"""Randomness and laws: keys, Gumbel draws, the warp, truncated Gumbels.

Numeric policy: probabilities are float32 (float64 if the caller's logits are), never bfloat16;
the maximum is subtracted before dividing by the temperature; filtered tokens have log
probability minus infinity exactly; every categorical draw is a Gumbel argmax whose noise
resolves the tail.
"""

import enum
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct

from rsd_jax.errors import ConfigError, is_number, positive_integer
from rsd_jax.threefry import Words, as_keys, fold_in, key_words, random_words

_UNIT = 2.0**-24


class Purpose(enum.IntEnum):
    """What a number is drawn for; two purposes never share a key.

    A block draws either a residual or a bonus token, never both, so one purpose serves them.
    """

    DRAFT = 0
    ACCEPT = 1
    EMIT = 2


def row_keys(seed: jax.Array | int, request_ids: jax.Array) -> jax.Array:
    """One key per row from (seed, request id), independent of the row's place: key[B]."""
    seeded = key_words(jax.random.key(seed, impl="threefry2x32"))
    words = tuple(jnp.broadcast_to(word, request_ids.shape) for word in seeded)
    return as_keys(fold_in((words[0], words[1]), request_ids))


def block_keys(rows: jax.Array, block: jax.Array) -> jax.Array:
    """key[B] of rows, i32[B] block counters of rows: key[B] for their current blocks."""
    return as_keys(fold_in(key_words(rows), block))


def _words(keys: jax.Array, purpose: Purpose, size: int) -> Words:
    """64 bits for each of `size` places of every row: key[B] to two u32[B, size]."""
    return random_words(fold_in(key_words(keys), purpose), size)


def _as_float(bits: jax.Array) -> jax.Array:
    """The upper 24 bits of u32[...] as an integer in float32, exactly."""
    return (bits >> jnp.uint32(8)).astype(jnp.float32)


def uniforms(keys: jax.Array, purpose: Purpose, size: int) -> jax.Array:
    """f32[B, size] uniform on [0, 1), entry i of a row depending on its key and i alone."""
    return _as_float(_words(keys, purpose, size)[0]) * _UNIT


def gumbels(keys: jax.Array, purpose: Purpose, shape: tuple[int, ...]) -> jax.Array:
    """f32[B, *shape] standard Gumbel noise with a resolved tail.

    -log(E) of an exponential E = -log(1 - u), where u has 24 significant bits down to 2^-48: the
    noise is resolved up to 33. With a plain float32 uniform it ends at 16, which biases a draw
    from 32000 tokens by 2e-3 in total variation.
    """
    high, low = _words(keys, purpose, math.prod(shape))
    u = (_as_float(high) + (_as_float(low) + 0.5) * _UNIT) * _UNIT
    # The largest u would round to 1, an impossible draw.
    noise = -jnp.log(-jnp.log1p(-jnp.minimum(u, 1.0 - _UNIT)))
    return noise.reshape(keys.shape[0], *shape)


def gumbel_top_k(
    logprobs: jax.Array, noise: jax.Array | None, k: int
) -> tuple[jax.Array, jax.Array]:
    """An ordered sample of k tokens without replacement (Vieira 2014; Kool et al. 2019).

    Args:
      logprobs: f32[..., V].
      noise: standard Gumbel f32[..., V], or None for the k most likely, ties to the lowest id.
      k: how many, static.

    Returns:
      perturbed values f32[..., k] in descending order and tokens i32[..., k]. Where the support
      is smaller than k, the excess values are -inf.
    """
    perturbed = logprobs if noise is None else logprobs + noise
    if k == 1:
        values = perturbed.max(-1, keepdims=True)
        return values, argmax(perturbed)[..., None]
    # As a matrix: XLA on CPU has a fast top-k for rank 2 and sorts the vocabulary otherwise.
    rows = perturbed.reshape(-1, perturbed.shape[-1])
    values, tokens = jax.lax.top_k(rows, k)
    shape = (*perturbed.shape[:-1], k)
    return values.reshape(shape), tokens.astype(jnp.int32).reshape(shape)


def argmax(x: jax.Array) -> jax.Array:
    """i32[...] of f32[..., V]: lowest index of the maximum; V - 1 if there is a NaN.

    Two plain reductions, which vectorise where the index-carrying one does not (4 x on CPU).
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

    Computes -log(exp(-bound) - exp(-largest) + exp(-g)) stably. Monotone in g; the largest g
    becomes exactly `bound`.

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


def _ordered_bits(weights: jax.Array) -> jax.Array:
    """Bits of non-negative floats, ordered like the floats themselves."""
    dtype = jnp.int32 if weights.dtype == jnp.float32 else jnp.int64
    return jax.lax.bitcast_convert_type(weights, dtype)


def _largest_bound(bits: jax.Array, holds: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """Largest t such that holds(bits < t), found exactly by bisection, without a sort.

    Args:
      bits: int[..., V], non-negative.
      holds: from bool[..., V] to bool[..., 1]; once false, false for every larger set.

    Returns:
      int[..., 1].
    """
    num_bits = jnp.iinfo(bits.dtype).bits - 1

    def try_bit(step: jax.Array, bound: jax.Array) -> jax.Array:
        bit = jnp.left_shift(jnp.ones_like(bound), (num_bits - 1 - step).astype(bound.dtype))
        return jnp.where(holds(bits < (bound | bit)), bound | bit, bound)

    return jax.lax.fori_loop(0, num_bits, try_bit, jnp.zeros_like(bits[..., :1]))


def _keep_top_k(logits: jax.Array, top_k: jax.Array) -> jax.Array:
    """Sets all but the k largest of logits <= 0 to -inf; ties with the k-th are kept."""
    bits = _ordered_bits(jnp.abs(logits))
    bound = _largest_bound(
        bits, lambda above: above.sum(-1, keepdims=True, dtype=jnp.int32) < top_k
    )
    return jnp.where(bits <= bound, logits, -jnp.inf)


def _keep_top_p(logprobs: jax.Array, drop_mass: jax.Array) -> jax.Array:
    """Drops the ascending tail of mass <= drop_mass; never the most likely token.

    A token stays iff it and all tokens not above it have more mass than `drop_mass`; ties
    with the last one kept are kept.
    """
    probs = jnp.exp(logprobs)
    bits = _ordered_bits(probs)

    def holds(below: jax.Array) -> jax.Array:
        return jnp.where(below, probs, 0.0).sum(-1, keepdims=True) <= drop_mass

    bound = jnp.minimum(_largest_bound(bits, holds), bits.max(-1, keepdims=True))
    return jnp.where(bits >= bound, logprobs, -jnp.inf)


@struct.dataclass
class Warp:
    """From logits to the law that is sampled: temperature, then top-k, then top-p.

    Same order and semantics as Hugging Face's processors. Which steps are on is static, so a
    step that is off costs nothing; the values are traced, so changing them does not recompile.

    Attributes:
      temperature: f32[], positive.
      top_k: i32[], used if `use_top_k`.
      drop_mass: f32[], 1 - top_p, used if `use_top_p`.
      greedy: T = 0. The warp is then the plain softmax, by which drafts are ranked; targets
        are decided by argmax, and top-k and top-p are ignored.
    """

    temperature: jax.Array
    top_k: jax.Array
    drop_mass: jax.Array
    greedy: bool = struct.field(pytree_node=False)
    use_top_k: bool = struct.field(pytree_node=False)
    use_top_p: bool = struct.field(pytree_node=False)

    def __call__(self, logits: jax.Array) -> jax.Array:
        """Log probabilities f32[..., V] of logits f32[..., V]; NaN where they are no law."""
        x = logits - logits.max(-1, keepdims=True)
        if self.greedy:
            return jax.nn.log_softmax(x)
        x = x / self.temperature.astype(x.dtype)
        if self.use_top_k:
            x = _keep_top_k(x, self.top_k)
        if self.use_top_p:
            x = _keep_top_p(jax.nn.log_softmax(x), self.drop_mass.astype(x.dtype))
        return jax.nn.log_softmax(x)


def make_warp(temperature: float, top_k: int | None = None, top_p: float = 1.0) -> Warp:
    """Builds a `Warp`, checking its values.

    Raises:
      ConfigError: temperature < 0 or beyond float32, top_k < 1, or top_p outside (0, 1].
    """
    if not (is_number(temperature) and temperature >= 0.0 and math.isfinite(temperature)):
        raise ConfigError(f"temperature={temperature!r} must be finite and at least 0 (0: greedy)")
    low, high = (float(getattr(jnp.finfo(jnp.float32), name)) for name in ("tiny", "max"))
    if temperature != 0.0 and not low <= temperature <= high:
        raise ConfigError(
            f"temperature={temperature} does not fit a float32, which holds {low:.1e} to "
            f"{high:.1e}; for greedy decoding set it to 0"
        )
    if top_k is not None:
        # More than any vocabulary holds keeps everything, and fits the device's integers.
        top_k = min(positive_integer("top_k", top_k, ", or None for no limit"), 2**31 - 1)
    if not (is_number(top_p) and 0.0 < top_p <= 1.0):
        raise ConfigError(f"top_p={top_p!r} must lie in (0, 1]; 1 keeps every token")
    greedy = temperature == 0.0
    return Warp(
        temperature=jnp.asarray(1.0 if greedy else temperature, jnp.float32),
        top_k=jnp.asarray(top_k or 0, jnp.int32),
        drop_mass=jnp.asarray(1.0 - top_p, jnp.float32),
        greedy=greedy,
        use_top_k=top_k is not None and not greedy,
        use_top_p=top_p < 1.0 and not greedy,
    )


def is_law(logprobs: jax.Array) -> jax.Array:
    """bool[...]: whether log probabilities f32[..., V] are a law: none NaN, some finite."""
    return jnp.isfinite(logprobs.max(-1))


def residual(r: jax.Array, q: jax.Array) -> tuple[jax.Array, jax.Array]:
    """N[(r - q)+] over the last axis and its mass before normalisation f32[..., 1].

    Where the mass is exactly 0 the residual is undefined (NaN): the caller must accept.
    """
    excess = jnp.maximum(r - q, 0.0)
    mass = excess.sum(-1, keepdims=True)
    return excess / mass, mass
