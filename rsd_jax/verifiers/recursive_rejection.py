"""Recursive rejection sampling, RRS (Jeon et al. 2024, section 3.1; SpecInfer's multi-round SD)."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct

from rsd_jax.drafters.base import Sampling
from rsd_jax.sampling import is_law, residual
from rsd_jax.tree import DraftTree
from rsd_jax.types import NO_NODE
from rsd_jax.verifiers.base import Decision, TargetLaws, Verifier, no_path, root_only


@struct.dataclass
class _Node:
    """Where the siblings of one node stand: `slot` is the next child to test, N if none."""

    slot: jax.Array  # i32[]
    rejected: jax.Array  # i32[]
    accepted: jax.Array  # i32[], the accepted child or NO_NODE
    r: jax.Array  # f32[V], residual after the rejections so far
    log_q: jax.Array  # f32[V], law of the next child
    empty: jax.Array  # i32[], empty residuals met


@dataclasses.dataclass(frozen=True)
class RecursiveRejection(Verifier):
    """Tests the children of a node in draw order, each against the residual of those before.

    Attributes:
      replacement: whether siblings were drawn i.i.d. (SpecInfer) instead of without
        replacement (RSD).
    """

    replacement: bool = False

    @property
    def accepts(self) -> frozenset[Sampling]:
        kind = Sampling.IID if self.replacement else Sampling.WITHOUT_REPLACEMENT
        return frozenset({Sampling.NONE, Sampling.POINT, kind})

    def decide(self, tree: DraftTree, target: TargetLaws, uniforms: jax.Array) -> Decision:
        depth = tree.shape.depth
        if depth == 0:
            return root_only(target)

        def descend(state):
            node, level, path, ranks, _, finite, empty, _ = state
            log_p = target.at(node)
            end = self.test_children(tree, node, jnp.exp(log_p), uniforms)
            accepted = end.accepted != NO_NODE
            path = path.at[level].set(end.accepted, mode="drop")
            rank = jnp.where(accepted, end.rejected, NO_NODE)
            ranks = ranks.at[level].set(rank, mode="drop")
            node = jnp.where(accepted, end.accepted, node)
            finite &= is_law(log_p)
            return node, level + 1, path, ranks, end.r, finite, empty + end.empty, accepted

        zero = jnp.asarray(0, jnp.int32)
        law = jnp.zeros(target.logits.shape[-1:], target.logits.dtype)
        start = (
            zero, zero, no_path(depth), no_path(depth), law, jnp.asarray(True), zero,
            jnp.asarray(True),
        )  # fmt: skip
        end = jax.lax.while_loop(lambda state: state[-1], descend, start)
        _, levels, path, ranks, law, finite, empty, _ = end
        return Decision(
            num_accepted=levels - 1,
            path=path,
            ranks=ranks,
            law=law,
            finite=finite,
            empty_residuals=empty,
        )

    def test_children(
        self, tree: DraftTree, node: jax.Array, p: jax.Array, uniforms: jax.Array
    ) -> _Node:
        """Tests the children of `node` until one is accepted or none is left.

        r_1 = p; child x_k is accepted iff U_k q_k(x_k) < r_k(x_k), else
        r_{k+1} = N[(r_k - q_k)+].
        """
        slots = jnp.arange(tree.shape.num_nodes, dtype=jnp.int32)
        children = (tree.parents == node) & tree.valid

        def next_child(after: jax.Array) -> jax.Array:
            later = children & (slots > after)
            return jnp.where(later.any(), jnp.argmax(later), tree.shape.num_nodes).astype(jnp.int32)

        def test(state: _Node) -> _Node:
            x, q = tree.tokens[state.slot], jnp.exp(state.log_q)
            rest, mass = residual(state.r, q)
            empty = mass[0] == 0.0
            passed = uniforms[state.slot] * q[x] < state.r[x]
            accept = passed | empty
            return _Node(
                slot=jnp.where(accept, tree.shape.num_nodes, next_child(state.slot)),
                rejected=state.rejected + (~accept).astype(jnp.int32),
                accepted=jnp.where(accept, state.slot, NO_NODE),
                r=jnp.where(accept, state.r, rest),
                log_q=state.log_q if self.replacement else _exclude(state.log_q, x),
                empty=state.empty + (empty & ~passed).astype(jnp.int32),
            )

        zero = jnp.asarray(0, jnp.int32)
        start = _Node(
            slot=next_child(node),
            rejected=zero,
            accepted=jnp.asarray(NO_NODE, jnp.int32),
            r=p,
            log_q=self.first_law(tree, node),
            empty=zero,
        )
        return jax.lax.while_loop(lambda s: s.slot < tree.shape.num_nodes, test, start)

    def first_law(self, tree: DraftTree, node: jax.Array) -> jax.Array:
        """log q_1 at a node, bit for bit the law sampled; leaves have no law and no children."""
        return tree.draft_logprobs_at(jnp.minimum(node, tree.shape.num_internal - 1))


def _exclude(log_q: jax.Array, x: jax.Array) -> jax.Array:
    """The law of the next sibling without replacement, in log space: never 1 - (drawn mass)."""
    return jax.nn.log_softmax(log_q.at[x].set(-jnp.inf))
