"""Training losses, one value per position; p is the target's law, q the draft's law.

The losses in `LOSSES` take the logits of both models, f32[..., V]; no gradient flows to the
target's logits. The target's logits may be `TruncatedLogits`, whose rest is then one outcome (see
`truncated`). Both laws are at `temperature`, which should be the temperature of deployment, as
acceptance at that temperature counts. The gradient then has a factor 1 / T, which is not undone.

Everything is computed from log-probabilities. Logits of -inf and probabilities that are 0 in
float32 are legal: gradients are always finite. Log-probabilities are floored at -`BOUND`; only
-inf and gaps of more than BOUND between logits / T reach this floor. A token that the draft
excludes and the target needs thus costs BOUND nats, not infinity, and has no gradient. Logits
that define no law (NaN, all -inf) give NaN.

Total variation has kinks where p(x) = q(x). There all losses take the derivative of the side
p < q, so that each loss has gradient 0 where the laws are equal. The gradient of KL goes to 0 as q
goes to p; the gradient of the losses made of total variation does not.
"""

from typing import Protocol

import jax
import jax.numpy as jnp
import optax

from rsd_jax.distillation.truncated import TruncatedLogits, outcome_logprobs

BOUND = 1000.0
"""Largest loss, in nats, of a token with probability 0."""

SIGMA_FLOOR = 1e-3
"""Least standard deviation of TVD++'s rewards; errors of 1e-6 in a float32 variance reach it."""

Target = jax.Array | TruncatedLogits


class Loss(Protocol):
    """A function of the logits f32[..., V] of target and draft to losses f32[...]."""

    def __call__(
        self, target_logits: Target, draft_logits: jax.Array, *, temperature: float = 1.0
    ) -> jax.Array: ...


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """-log q(label) in nats: logits f32[..., V] and labels i32[...] to f32[...]."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def forward_kl(
    target_logits: Target, draft_logits: jax.Array, *, temperature: float = 1.0
) -> jax.Array:
    """KL(p || q) in nats: f32[..., V] twice to f32[...] (knowledge distillation, Hinton 2015)."""
    log_p, log_q = _laws(target_logits, draft_logits, temperature)
    return _kl(log_p, log_q)


def reverse_kl(
    target_logits: Target, draft_logits: jax.Array, *, temperature: float = 1.0
) -> jax.Array:
    """KL(q || p) in nats: f32[..., V] twice to f32[...] (MiniLLM, Gu et al. 2024).

    The expectation under q and its gradient are exact, without sampling. For a filtered target
    (top-k, top-p) the loss is large: `BOUND` per unit of the draft's mass outside the filter.
    """
    log_p, log_q = _laws(target_logits, draft_logits, temperature)
    return _kl(log_q, log_p)


def tvd(target_logits: Target, draft_logits: jax.Array, *, temperature: float = 1.0) -> jax.Array:
    """Total variation, sum (p - q)+ in [0, 1]: f32[..., V] twice to f32[...].

    1 minus the probability that a draft token is accepted (Leviathan et al. 2023); a training
    loss in DistillSpec (Zhou et al. 2024).
    """
    return _total_variation(*_laws(target_logits, draft_logits, temperature))


def tvd_pp(
    target_logits: Target,
    draft_logits: jax.Array,
    *,
    temperature: float = 1.0,
    weights: jax.Array | None = None,
) -> jax.Array:
    """TVD++, total variation by a policy gradient with standardised rewards (Goel et al. 2024).

    The gradient of TV is -E_{x ~ q}[r(x) grad log q(x)] with the reward r(x) = 1{p(x) > q(x)}.
    TVD++ replaces r by (r - mu) / sigma, with the mean mu and the standard deviation sigma of the
    rewards over the batch. Here x ~ q is not sampled but summed over the vocabulary, both in the
    moments (mean over all positions of the expectation under q) and in the gradient. Rewards and
    moments are constants. sigma is at least `SIGMA_FLOOR`.

    The batch is the input of one call; on a mesh or with accumulation it is only a part of the
    step's batch. In the moments positions are weighted by `weights` f32[...], 0 for prompts.

    As sum q grad log q = 0, mu has no effect in the exact sum: the gradient is the gradient of TV
    divided by sigma = sqrt(mu (1 - mu)), one factor for the whole batch.

    Returns:
      f32[...] of f32[..., V] twice. The *value* is TV, as the value of the policy gradient's
      surrogate, -E_q[(r - mu) / sigma], has mean 0 for all laws.
    """
    log_p, log_q = _laws(target_logits, draft_logits, temperature)
    q, reward = jnp.exp(log_q), (log_p > log_q).astype(log_q.dtype)
    law = jax.lax.stop_gradient(q)
    mu = weighted_mean((law * reward).sum(-1), weights)
    variance = weighted_mean((law * jnp.square(reward - mu)).sum(-1), weights)
    advantage = (reward - mu) / jnp.maximum(jnp.sqrt(variance), SIGMA_FLOOR)
    surrogate = -(q * advantage).sum(-1)
    offset = _total_variation(log_p, log_q) - surrogate
    return surrogate + jax.lax.stop_gradient(offset)


def lk(target_logits: Target, draft_logits: jax.Array, *, temperature: float = 1.0) -> jax.Array:
    """-log(1 - TV), the LK loss: minus the log of the acceptance, f32[..., V] twice to f32[...].

    The gradient is the gradient of TV divided by the acceptance, so it does not vanish where the
    laws hardly overlap. The loss is a log-sum-exp of min(log p, log q): loss (at most `BOUND`)
    and gradient stay finite and useful where the acceptance is 0 in float32.
    """
    log_p, log_q = _laws(target_logits, draft_logits, temperature)
    return -jax.nn.logsumexp(_lower(log_p, log_q), axis=-1)


def lk_mixed(
    target_logits: Target, draft_logits: jax.Array, *, temperature: float = 1.0
) -> jax.Array:
    """lambda KL(p || q) + (1 - lambda) TV, the mixed LK loss: f32[..., V] twice to f32[...].

    lambda = exp(-3 acceptance) per position, without gradient. KL dominates where the laws hardly
    overlap and the gradient of TV is small; TV (weight 0.95 at acceptance 1) where they agree.
    """
    log_p, log_q = _laws(target_logits, draft_logits, temperature)
    mix = jnp.exp(-3.0 * jax.lax.stop_gradient(_acceptance(log_p, log_q)))
    return mix * _kl(log_p, log_q) + (1.0 - mix) * _total_variation(log_p, log_q)


LOSSES: dict[str, Loss] = {
    "forward_kl": forward_kl,
    "reverse_kl": reverse_kl,
    "tvd": tvd,
    "tvd_pp": tvd_pp,
    "lk": lk,
    "lk_mixed": lk_mixed,
}
"""The losses of a draft against a target, by the values of a recipe's `objective`."""

OVER_BATCH = frozenset({"tvd_pp"})
"""The losses with moments over the batch, which take `weights`."""


def weighted_mean(values: jax.Array, weights: jax.Array | None) -> jax.Array:
    """Mean of f32[...], weighted by f32[...] unless None; 0 if all weights are 0."""
    if weights is None:
        return values.mean()
    return (weights * values).sum() / jnp.maximum(weights.sum(), jnp.finfo(weights.dtype).tiny)


def expected_acceptance(
    target_logits: Target, draft_logits: jax.Array, *, temperature: float = 1.0
) -> jax.Array:
    """sum_x min(p(x), q(x)), the probability that speculative decoding accepts one draft token.

    f32[..., V] twice to f32[...]; equal to 1 minus the total variation distance (Leviathan 2023).
    """
    return _acceptance(*_laws(target_logits, draft_logits, temperature))


def log_law(logits: jax.Array, temperature: float = 1.0) -> jax.Array:
    """Log-probabilities f32[..., V] at a temperature above 0."""
    return jax.nn.log_softmax(_tempered(logits, temperature))


def _tempered(logits: jax.Array, temperature: float) -> jax.Array:
    """Logits at a temperature, up to a constant, which makes the largest one 0."""
    # The maximum is subtracted before the division; afterwards the differences would lose digits.
    largest = jax.lax.stop_gradient(logits.max(-1, keepdims=True))
    return (logits - largest) / temperature


def _laws(
    target: Target, draft_logits: jax.Array, temperature: float
) -> tuple[jax.Array, jax.Array]:
    """Floored log p and log q over tokens or, for a truncated target, over outcomes."""
    target = jax.lax.stop_gradient(target)
    if isinstance(target, TruncatedLogits):
        logits = _tempered(draft_logits, temperature)
        log_p, log_q = outcome_logprobs(target, logits, temperature=temperature)
    else:
        log_p, log_q = log_law(target, temperature), log_law(draft_logits, temperature)
    return jnp.maximum(log_p, -BOUND), jnp.maximum(log_q, -BOUND)


def _kl(log_a: jax.Array, log_b: jax.Array) -> jax.Array:
    return jnp.sum(jnp.exp(log_a) * (log_a - log_b), axis=-1)


def _lower(log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    """min(log p, log q); without gradient where both are equal; NaN where either is NaN."""
    return jnp.where((log_p <= log_q) | jnp.isnan(log_p), log_p, log_q)


def _total_variation(log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    return jnp.sum(jnp.exp(log_p) - jnp.exp(_lower(log_p, log_q)), axis=-1)


def _acceptance(log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    return jnp.exp(_lower(log_p, log_q)).sum(axis=-1)
