"""K-SEQ, SpecTr's sequential selection (Sun et al. 2023, section 5 and algorithm 2)."""

import dataclasses

import jax
import jax.numpy as jnp

from rsd_jax.drafters.base import Sampling
from rsd_jax.sampling import is_law
from rsd_jax.tree import DraftTree
from rsd_jax.types import NO_NODE
from rsd_jax.verifiers.base import Decision, TargetLaws, Verifier, no_path, root_only

_BISECTIONS = 24


def _overlap(p: jax.Array, q: jax.Array, rho: jax.Array) -> jax.Array:
    """beta(rho) = sum min(q, p / rho): acceptance of one draw."""
    return jnp.minimum(q, p / rho).sum()


def _any_of(beta: jax.Array, k: jax.Array) -> jax.Array:
    """1 - (1 - beta)^k."""
    return -jnp.expm1(k * jnp.log1p(-jnp.minimum(beta, 1.0)))


def division_factor(p: jax.Array, q: jax.Array, k: jax.Array) -> jax.Array:
    """rho* in [1, k] with 1 - (1 - beta)^k = rho beta; the upper end of the last interval.

    Every rho at or above rho* is valid, none below is.

    Args:
      p, q: f32[V].
      k: f32[], draws at the node.
    """

    def halve(_, interval):
        low, high = interval
        middle = 0.5 * (low + high)
        beta = _overlap(p, q, middle)
        valid = _any_of(beta, k) <= middle * beta
        return jnp.where(valid, low, middle), jnp.where(valid, middle, high)

    interval = (jnp.ones_like(k), k)
    return jax.lax.fori_loop(0, _BISECTIONS, halve, interval)[1]


def k_seq_residual(p: jax.Array, q: jax.Array, rho: jax.Array, k: jax.Array) -> jax.Array:
    """N[p - min(q, p / rho) (1 - (1 - beta)^k) / beta]; p itself if beta is 0."""
    beta = _overlap(p, q, rho)
    scale = jnp.where(beta > 0.0, _any_of(beta, k) / jnp.where(beta > 0.0, beta, 1.0), 0.0)
    rest = jnp.maximum(p - jnp.minimum(q, p / rho) * scale, 0.0)
    return rest / rest.sum()


@dataclasses.dataclass(frozen=True)
class KSeq(Verifier):
    """Walks i.i.d. chains depth by depth.

    At each depth the alive drafts are all whose prefix equals the accepted one, copies that
    were rejected earlier included; their number is the K of the node. Each is accepted with
    probability min(1, p / (rho* q)), in index order.
    """

    @property
    def accepts(self) -> frozenset[Sampling]:
        return frozenset({Sampling.NONE, Sampling.IID})

    def decide(self, tree: DraftTree, target: TargetLaws, uniforms: jax.Array) -> Decision:
        shape = tree.shape
        if shape.depth == 0:
            return root_only(target)
        drafts = max(shape.widths)
        # Slot of draft i at depth d, the root standing for every draft at depth 0.
        order = jnp.arange(drafts, dtype=jnp.int32)
        chain = jnp.asarray(
            [[start + i % width for i in range(drafts)]
             for start, width in zip(shape.starts, shape.widths, strict=True)], jnp.int32,
        )  # fmt: skip

        def descend(state):
            level, alive, ranks, _, finite, empty, _ = state
            node = chain[level, jnp.argmax(alive)]
            log_p = target.at(node)
            finite &= is_law(log_p)
            p = jnp.exp(log_p)
            q = jnp.exp(tree.draft_logprobs_at(jnp.minimum(node, shape.num_internal - 1)))
            below = chain[jnp.minimum(level + 1, shape.depth)]
            tested = alive & tree.valid[below] & (level < shape.depth)
            k = jnp.maximum(tested.sum(), 1).astype(p.dtype)
            rho = division_factor(p, q, k)
            rest = k_seq_residual(p, q, rho, k)
            x = tree.tokens[below]
            passed = tested & (uniforms[below] * rho * q[x] < p[x])
            # A residual without mass (only if p = q) leaves nothing to emit: accept the first.
            empty_residual = tested.any() & ~passed.any() & jnp.isnan(rest.sum()) & is_law(log_p)
            passed |= tested & empty_residual
            winner = jnp.argmax(passed).astype(jnp.int32)
            accepted = passed.any()
            rank = (tested & (order < winner)).sum(dtype=jnp.int32)
            ranks = ranks.at[level].set(jnp.where(accepted, rank, NO_NODE), mode="drop")
            law = jnp.where(tested.any(), rest, p)
            alive = jnp.where(accepted, alive & (x == x[winner]), alive)
            empty += empty_residual.astype(jnp.int32)
            return level + 1, alive, ranks, law, finite, empty, accepted

        zero = jnp.asarray(0, jnp.int32)
        law = jnp.zeros(target.logits.shape[-1:], target.logits.dtype)
        start = (
            zero, jnp.ones((drafts,), bool), no_path(shape.depth), law, jnp.asarray(True), zero,
            jnp.asarray(True),
        )  # fmt: skip
        end = jax.lax.while_loop(lambda state: state[-1], descend, start)
        levels, alive, ranks, law, finite, empty, _ = end
        num_accepted = levels - 1
        # Every alive draft carries the accepted tokens; the first one's slots are committed.
        counted = jnp.arange(shape.depth, dtype=jnp.int32) < num_accepted
        path = jnp.where(counted, chain[1:, jnp.argmax(alive)], NO_NODE)
        return Decision(
            num_accepted=num_accepted,
            path=path,
            ranks=jnp.where(counted, ranks, NO_NODE),
            law=law,
            finite=finite,
            empty_residuals=empty,
        )
