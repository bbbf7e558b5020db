"""Target logits stored as the k largest logits and the mass of the rest.

The law within the rest is lost. The losses treat the rest as one outcome, the aggregate of all
other tokens, and compare k + 1 outcomes. Let P and Q be the masses of the rest under target and
draft at the temperature of the loss, and p' and q' the laws given the rest. Then

- the acceptance is overstated, and total variation understated, by min(P, Q) - sum over the rest
  of min(p, q), which is between 0 and min(P, Q);
- KL(p || q) is understated by exactly P KL(p' || q') (chain rule), and KL(q || p) by exactly
  Q KL(q' || p').

Every loss but `lk_mixed`, whose weight depends on the acceptance, is thus a lower bound of the
dense loss. At k = V all losses are equal to the dense losses. The gradient moves mass into or out
of the rest and does not change the draft's law within the rest.

A change of temperature and `dense_logprobs` need a law within the rest; both take it as uniform.
Of all laws the uniform law has the least sum of p^(1/T) at T < 1 and the greatest at T > 1. P is
therefore understated at T < 1, exact at T = 1 and overstated at T > 1. At T < 1 the true sum of
p^(1/T) over the rest is at most P_1 v^(1/T - 1), where P_1 is the mass of the rest at T = 1 and v
the smallest probability that was kept.
"""

import jax
import jax.numpy as jnp
from flax import struct

from rsd_jax.core.sampling import gumbel_top_k
from rsd_jax.errors import ConfigError, positive_integer


@struct.dataclass
class TruncatedLogits:
    """The k largest of V logits per position, as log-probabilities at T = 1.

    Attributes:
      values: f32[..., k], log p of the kept tokens; -inf is legal.
      ids: i32[..., k], the kept tokens, all different except for ids whose value is -inf.
      log_rest: f32[...], the log of the mass of all other tokens; -inf if there is none.
    """

    values: jax.Array
    ids: jax.Array
    log_rest: jax.Array


def truncate(logits: jax.Array, k: int) -> TruncatedLogits:
    """Keeps the k largest of f32[..., V], ties to the lowest id.

    Raises:
      ConfigError: k is not an integer between 1 and V.
    """
    vocab_size = logits.shape[-1]
    if positive_integer("k", k) > vocab_size:
        raise ConfigError(f"k={k} must be at most the vocabulary, {vocab_size}")
    logprobs = jax.nn.log_softmax(logits)
    values, ids = gumbel_top_k(logprobs, None, k)
    return TruncatedLogits(values, ids, _log_sum_outside(logprobs, ids))


def dense_logprobs(
    truncated: TruncatedLogits, vocab_size: int, *, temperature: float = 1.0
) -> jax.Array:
    """The law f32[..., V] in which the rest is uniform, as log-probabilities.

    At T = 1 its total variation distance from the original law is at most the mass of the rest.
    """
    log_p = _tempered(truncated, vocab_size, temperature)
    k = truncated.ids.shape[-1]
    if k == vocab_size:
        spread = jnp.full((*log_p.shape[:-1], vocab_size), -jnp.inf, log_p.dtype)
    else:
        each = log_p[..., k:] - jnp.log(jnp.asarray(vocab_size - k, log_p.dtype))
        spread = jnp.broadcast_to(each, (*log_p.shape[:-1], vocab_size))
    return jnp.put_along_axis(spread, truncated.ids, log_p[..., :k], axis=-1, inplace=False)


def outcome_logprobs(
    truncated: TruncatedLogits, logits: jax.Array, *, temperature: float = 1.0
) -> tuple[jax.Array, jax.Array]:
    """Both laws over the kept tokens and, last, the rest as one outcome.

    The draft's law over all V tokens is never formed: its passes over V would take as long again as
    the head of a small draft.

    Args:
      truncated: of the target, at T = 1.
      logits: f32[..., V], of the draft, divided by `temperature`.
      temperature: temperature of the target's law.

    Returns:
      log p and log q, each f32[..., k + 1]; f32[..., V] in the order of `ids` if k = V.
    """
    log_p = _tempered(truncated, logits.shape[-1], temperature)
    total = jax.nn.logsumexp(logits, axis=-1, keepdims=True)
    outcomes = jnp.take_along_axis(logits, truncated.ids, axis=-1)
    outcomes = jnp.where(_repeats(truncated), -jnp.inf, outcomes)
    if log_p.shape[-1] > outcomes.shape[-1]:
        rest = _log_sum_outside(logits, truncated.ids)
        outcomes = jnp.concatenate([outcomes, rest[..., None]], axis=-1)
    return log_p, outcomes - total


def _repeats(truncated: TruncatedLogits) -> jax.Array:
    """bool[..., k]: entries without mass whose id stands in an earlier one; each id counts once."""
    ids = truncated.ids
    same = ids[..., :, None] == ids[..., None, :]
    return jnp.tril(same, -1).any(-1) & (truncated.values == -jnp.inf)


def _tempered(truncated: TruncatedLogits, vocab_size: int, temperature: float) -> jax.Array:
    """log p of the kept tokens and the rest, f32[..., k + 1]; without the rest if k = V."""
    outside = vocab_size - truncated.ids.shape[-1]
    if outside == 0:
        return jax.nn.log_softmax(truncated.values / temperature)
    log_count = jnp.log(jnp.asarray(outside, truncated.log_rest.dtype))
    rest = (truncated.log_rest - log_count) / temperature + log_count
    kept = truncated.values / temperature
    return jax.nn.log_softmax(jnp.concatenate([kept, rest[..., None]], axis=-1))


def _log_sum_outside(logprobs: jax.Array, ids: jax.Array) -> jax.Array:
    """log of the sum over all tokens but ids i32[..., k]: f32[..., V] to f32[...]."""
    everything = jnp.ones(logprobs.shape, bool)
    absent = jnp.zeros(ids.shape, bool)
    outside = jnp.put_along_axis(everything, ids, absent, axis=-1, inplace=False)
    # Probabilities of 0 are left out too: a sum of only zeros would have a NaN gradient.
    outside &= logprobs != -jnp.inf
    return jax.nn.logsumexp(jnp.where(outside, logprobs, -jnp.inf), axis=-1)
