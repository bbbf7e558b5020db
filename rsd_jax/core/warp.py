"""The warp: from logits to the law that is sampled, by temperature, top-k and top-p.

One function serves autoregressive decoding, verification and the bonus token alike. It subtracts
the maximum before it divides by the temperature. Filtered tokens have log probability minus
infinity exactly. Nothing is sorted: bisection finds the thresholds.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct

from rsd_jax.errors import ConfigError, is_number, positive_integer


def _ordered_bits(weights: jax.Array) -> jax.Array:
    """Bits of non-negative floats as integers, which are ordered like the floats themselves."""
    dtype = jnp.int32 if weights.dtype == jnp.float32 else jnp.int64
    return jax.lax.bitcast_convert_type(weights, dtype)


def _largest_bound(bits: jax.Array, holds: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """Largest t such that holds(bits < t), found exactly by bisection, without a sort.

    Args:
      bits: int[..., V], non-negative.
      holds: from a set bool[..., V] to bool[..., 1]; if it is false for a set, it must be false for
        every larger set.

    Returns:
      int[..., 1].
    """
    num_bits = jnp.iinfo(bits.dtype).bits - 1

    def try_bit(step: jax.Array, bound: jax.Array) -> jax.Array:
        bit = jnp.left_shift(jnp.ones_like(bound), (num_bits - 1 - step).astype(bound.dtype))
        return jnp.where(holds(bits < (bound | bit)), bound | bit, bound)

    return jax.lax.fori_loop(0, num_bits, try_bit, jnp.zeros_like(bits[..., :1]))


def _keep_top_k(logits: jax.Array, top_k: jax.Array) -> jax.Array:
    """Sets all but the k largest logits to -inf and keeps ties with the k-th; logits are <= 0."""
    bits = _ordered_bits(jnp.abs(logits))
    bound = _largest_bound(
        bits, lambda above: above.sum(-1, keepdims=True, dtype=jnp.int32) < top_k
    )
    return jnp.where(bits <= bound, logits, -jnp.inf)


def _keep_top_p(logprobs: jax.Array, drop_mass: jax.Array) -> jax.Array:
    """Drops the ascending tail of mass <= drop_mass, but never the most likely token.

    A token stays iff the tokens that are at most as likely, itself included, have more mass than
    `drop_mass`. Tokens that tie with the least likely token that stays, stay too.
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

    Order and semantics are those of the logits processors of Hugging Face transformers, but for
    ties under top-p: all tokens stay that tie with the least likely token that stays, whereas
    transformers keeps some of them, by the order of a sort. Which steps are on is static, so a step
    that is off costs nothing. The values are traced, so changing them does not recompile.

    Attributes:
      temperature: f32[], positive.
      top_k: i32[], used if `use_top_k`.
      drop_mass: f32[], 1 - top_p, used if `use_top_p`.
      greedy: whether T = 0. The warp is then the plain softmax, which serves to rank drafts; the
        target's token is the argmax, and top-k and top-p are ignored.
    """

    temperature: jax.Array
    top_k: jax.Array
    drop_mass: jax.Array
    greedy: bool = struct.field(pytree_node=False)
    use_top_k: bool = struct.field(pytree_node=False)
    use_top_p: bool = struct.field(pytree_node=False)

    def __call__(self, logits: jax.Array) -> jax.Array:
        """Log probabilities f32[..., V] of logits f32[..., V]; NaN where these define no law."""
        x = logits - logits.max(-1, keepdims=True)
        if self.greedy:
            return jax.nn.log_softmax(x)
        x = x / self.temperature.astype(x.dtype)
        if self.use_top_k:
            x = _keep_top_k(x, self.top_k)
        if self.use_top_p:
            x = _keep_top_p(jax.nn.log_softmax(x), self.drop_mass.astype(x.dtype))
        return jax.nn.log_softmax(x)


def check_warp(temperature: float, top_k: int | None = None, top_p: float = 1.0) -> None:
    """Checks the values of a `Warp`.

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
        positive_integer("top_k", top_k, ", or None for no limit", most=None)
    if not (is_number(top_p) and 0.0 < top_p <= 1.0):
        raise ConfigError(f"top_p={top_p!r} must lie in (0, 1]; 1 keeps every token")


def make_warp(temperature: float, top_k: int | None = None, top_p: float = 1.0) -> Warp:
    """Builds a `Warp`; see `check_warp` for its errors."""
    check_warp(temperature, top_k, top_p)
    greedy = temperature == 0.0
    return Warp(
        temperature=jnp.asarray(1.0 if greedy else temperature, jnp.float32),
        # The cap fits the device's integers and is larger than any vocabulary, so it keeps all.
        top_k=jnp.asarray(min(top_k or 0, 2**31 - 1), jnp.int32),
        drop_mass=jnp.asarray(1.0 - top_p, jnp.float32),
        greedy=greedy,
        use_top_k=top_k is not None and not greedy,
        use_top_p=top_p < 1.0 and not greedy,
    )
