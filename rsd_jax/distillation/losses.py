"""Training losses, one value per position; p is the target's law, q the draft's."""

import jax
import jax.numpy as jnp
import optax


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """-log q(label) in nats: logits f32[..., V] and labels i32[...] to f32[...]."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def forward_kl(target_logits: jax.Array, draft_logits: jax.Array) -> jax.Array:
    """KL(p || q) in nats: two f32[..., V] to f32[...] (knowledge distillation, Hinton 2015)."""
    log_p = jax.nn.log_softmax(target_logits)
    log_q = jax.nn.log_softmax(draft_logits)
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)


def expected_acceptance(
    target_logits: jax.Array, draft_logits: jax.Array, *, temperature: float = 1.0
) -> jax.Array:
    """sum_x min(p(x), q(x)), the chance that speculative decoding accepts one draft token.

    Two f32[..., V] to f32[...]; equal to 1 minus the total variation distance (Leviathan 2023).
    """
    p = jax.nn.softmax(target_logits / temperature)
    q = jax.nn.softmax(draft_logits / temperature)
    return jnp.minimum(p, q).sum(axis=-1)
