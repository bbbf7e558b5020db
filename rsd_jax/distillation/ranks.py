"""How often the k-th sibling is accepted, and block efficiencies estimated from these acceptances.

For siblings drawn without replacement and recursive rejection sampling (Jeon et al. 2024, section
3.1). No token is decoded: both laws at the positions of a text are enough.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from rsd_jax.core.sampling import gumbel_top_k, residual
from rsd_jax.errors import ConfigError


@struct.dataclass
class _Siblings:
    """State of the recursion before a sibling is tested."""

    r: jax.Array  # f32[..., V], residual after the rejections so far
    log_q: jax.Array  # f32[..., V], law of the next sibling
    reached: jax.Array  # f32[...], probability that all siblings so far were rejected


def rank_probabilities(
    log_p: jax.Array, log_q: jax.Array, noise: jax.Array, num_siblings: int
) -> tuple[jax.Array, jax.Array]:
    """Acceptance probabilities of one Monte-Carlo draw of siblings at every position.

    The siblings are the Gumbel-top-K of log q. Accept/reject decisions are not drawn but averaged
    over, and so is the tested sibling: with its law q_k and the residual r_k, the sibling is
    accepted with probability sum min(r_k, q_k). Rank 1 is therefore exact; later ranks depend on
    the drawn earlier siblings.

    Args:
      log_p: f32[..., V], the target's law.
      log_q: f32[..., V], the draft's law; with fewer than K possible tokens, the missing siblings
        are not accepted.
      noise: f32[..., V], standard Gumbel.
      num_siblings: K, at most V.

    Returns:
      f32[..., K] twice: the probability that siblings 1 to k - 1 are rejected, and the
      probability that siblings 1 to k - 1 are rejected and sibling k is accepted. The mean of the
      second over the mean of the first is the acceptance of rank k given the rejections.
    """
    values, tokens = gumbel_top_k(log_q, noise, num_siblings)
    vocabulary = jnp.arange(log_q.shape[-1], dtype=jnp.int32)

    def test(state: _Siblings, sibling: tuple[jax.Array, jax.Array]):
        x, exists = sibling
        q = jnp.exp(state.log_q)
        chosen = x[..., None] == vocabulary.reshape((1,) * x.ndim + (-1,))
        q_x, r_x = (jnp.where(chosen, law, 0.0).sum(-1) for law in (q, state.r))
        rest, mass = residual(state.r, q)
        # A residual without mass means r = q up to rounding: the sibling is accepted.
        open_end = (mass[..., 0] > 0.0) & (q_x > r_x)
        rejected = jnp.where(open_end, 1.0 - r_x / jnp.where(q_x > 0.0, q_x, 1.0), 0.0)
        log_q = jnp.where(chosen, -jnp.inf, state.log_q)
        log_mass = jax.nn.logsumexp(log_q, axis=-1, keepdims=True)
        after = _Siblings(
            r=jnp.where(exists[..., None] & (mass > 0.0), rest, state.r),
            log_q=log_q - jnp.where(jnp.isfinite(log_mass), log_mass, 0.0),
            reached=jnp.where(exists, state.reached * rejected, state.reached),
        )
        accepted = jnp.where(exists, jnp.minimum(state.r, q).sum(-1), 0.0)
        return after, (state.reached, state.reached * accepted)

    start = _Siblings(jnp.exp(log_p), log_q, jnp.ones(log_q.shape[:-1], log_q.dtype))
    siblings = (jnp.moveaxis(tokens, -1, 0), jnp.moveaxis(jnp.isfinite(values), -1, 0))
    _, (reached, accepted) = jax.lax.scan(test, start, siblings)
    return jnp.moveaxis(reached, 0, -1), jnp.moveaxis(accepted, 0, -1)


def rank_acceptance(reached: np.ndarray, accepted: np.ndarray) -> np.ndarray:
    """f64[K], acceptance of each rank given that the earlier ranks were rejected.

    The result is a ratio of means, not a mean of ratios, as positions are reached with different
    probabilities. A rank that is never reached gets the value 1, which has no effect.

    Args:
      reached, accepted: [..., K] from `rank_probabilities`.
    """
    above, below = (
        np.asarray(x, np.float64).reshape(-1, x.shape[-1]).mean(0) for x in (accepted, reached)
    )
    return np.clip(np.divide(above, below, out=np.ones_like(above), where=below > 0), 0.0, 1.0)


def expected_block_efficiency(acceptance: np.ndarray, branching: Sequence[int]) -> float:
    """Tokens per target call of a tree of constant branching, in the independence approximation.

    One of a node's b children is accepted with probability s(b) = 1 - prod over k <= b of
    (1 - a_k), and a block yields 1 + sum over l of prod over i <= l of s(b_i) tokens. For
    branching (1,) * L, which is SD of length L, this is (1 - a^(L+1)) / (1 - a) (Leviathan et al.
    2023, equation 1).

    This is an approximation for logs and for comparing drafts, not a measurement. Every node gets
    the acceptance of the average position, as if levels were independent. Acceptances of real
    positions are correlated along a text, so that real blocks are longer on average
    (E[a b] > E[a] E[b]). Also, the average is over contexts of the text, not over contexts of a
    tree.

    Args:
      acceptance: f64[K], acceptance of each rank, see `rank_acceptance`.
      branching: children per node of each level, each at most K.

    Raises:
      ConfigError: a level has no children or more children than there are ranks.
    """
    if not all(1 <= children <= len(acceptance) for children in branching):
        raise ConfigError(
            f"branching={tuple(branching)} must hold integers between 1 and the number of ranks "
            f"that were measured, {len(acceptance)}"
        )
    passes = [1.0 - np.prod(1.0 - np.asarray(acceptance)[:children]) for children in branching]
    return 1.0 + float(np.sum(np.cumprod(passes)))
