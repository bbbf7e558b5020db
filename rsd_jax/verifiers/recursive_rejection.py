"""Recursive rejection sampling, RRS (Jeon et al. 2024, section 3.1; SpecInfer's multi-round SD)."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from rsd_jax.core.sampling import is_law, residual
from rsd_jax.core.tree import DraftTree, SiblingLaw, children_table
from rsd_jax.core.types import NO_NODE
from rsd_jax.verifiers.base import (
    Decision,
    TargetLaws,
    Verifier,
    no_path,
    root_only,
    tests_all_nodes,
)


class _Test(NamedTuple):
    """One child tested at one node."""

    accept: jax.Array  # bool[]
    rest: jax.Array  # f32[V], the residual if it is rejected
    empty: jax.Array  # bool[], accepted only because the residual has no mass


def _test_child(r: jax.Array, log_q: jax.Array, x: jax.Array, u: jax.Array) -> _Test:
    """Accepts x iff u q(x) < r(x), strictly; else r becomes N[(r - q)+].

    Args:
      r: f32[V], the node's residual so far.
      log_q: f32[V], the law that x was drawn from.
      x: i32[].
      u: f32[] on [0, 1).
    """
    q = jnp.exp(log_q)
    rest, mass = residual(r, q)
    passed = u * q[x] < r[x]
    empty = (mass[0] == 0.0) & ~passed
    return _Test(passed | empty, rest, empty)


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
      all_nodes: whether all nodes are tested at once, in K vectorised steps, or only those that
        are reached, one after the other; the decisions are the same. None leaves it to
        `tests_all_nodes`.
    """

    replacement: bool = False
    all_nodes: bool | None = None

    @property
    def accepts(self) -> frozenset[SiblingLaw]:
        kind = SiblingLaw.IID if self.replacement else SiblingLaw.WITHOUT_REPLACEMENT
        return frozenset({SiblingLaw.NONE, SiblingLaw.POINT, kind})

    def decide(self, tree: DraftTree, target: TargetLaws, uniforms: jax.Array) -> Decision:
        if tree.shape.depth == 0:
            return root_only(target)
        chain = tree.shape.max_siblings == 1
        if tests_all_nodes(self.all_nodes, chain, target.backend):
            return self._decide_all(tree, target, uniforms)
        return self._decide_reached(tree, target, uniforms)

    def _decide_reached(self, tree: DraftTree, target: TargetLaws, uniforms: jax.Array) -> Decision:
        """Walks down from the root, as far as children are accepted."""
        depth = tree.shape.depth

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
            zero,
            zero,
            no_path(depth),
            no_path(depth),
            law,
            jnp.asarray(True),
            zero,
            jnp.asarray(True),
        )
        end = jax.lax.while_loop(lambda state: state[-1], descend, start)
        _, levels, path, ranks, law, finite, empty, _ = end
        return Decision(levels - 1, path, ranks, law, finite, empty)

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
            x = tree.tokens[state.slot]
            tested = _test_child(state.r, state.log_q, x, uniforms[state.slot])
            return _Node(
                slot=jnp.where(tested.accept, tree.shape.num_nodes, next_child(state.slot)),
                rejected=state.rejected + (~tested.accept).astype(jnp.int32),
                accepted=jnp.where(tested.accept, state.slot, NO_NODE),
                r=jnp.where(tested.accept, state.r, tested.rest),
                log_q=self.next_law(state.log_q, x),
                empty=state.empty + tested.empty.astype(jnp.int32),
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

    def _decide_all(self, tree: DraftTree, target: TargetLaws, uniforms: jax.Array) -> Decision:
        """Tests the k-th child of every parent slot at once, for k = 1, ..., K; then walks."""
        shape = tree.shape
        nodes = jnp.asarray(shape.parent_slots)
        children = children_table(tree)
        log_p = target.at_parents(shape)
        log_q = jax.vmap(lambda node: self.first_law(tree, node))(nodes)
        zeros = jnp.zeros_like(nodes)
        state = _Node(children[:, 0], zeros, zeros + NO_NODE, jnp.exp(log_p), log_q, zeros)
        for k in range(shape.max_siblings):
            slot = jnp.minimum(children[:, k], shape.num_nodes - 1)
            x, pending = tree.tokens[slot], state.accepted == NO_NODE
            pending &= children[:, k] < shape.num_nodes
            tested = jax.vmap(_test_child)(state.r, state.log_q, x, uniforms[slot])
            rejects, accepts = pending & ~tested.accept, pending & tested.accept
            if k + 1 < shape.max_siblings:
                log_q = jax.vmap(self.next_law)(state.log_q, x)
            state = _Node(
                slot=slot,
                rejected=state.rejected + rejects.astype(jnp.int32),
                accepted=jnp.where(accepts, slot, state.accepted),
                r=jnp.where(rejects[:, None], tested.rest, state.r),
                log_q=log_q,
                empty=state.empty + (pending & tested.empty).astype(jnp.int32),
            )
        return _follow(tree, target, state, is_law(log_p))

    def first_law(self, tree: DraftTree, node: jax.Array) -> jax.Array:
        """log q_1 at a node, bit for bit the law sampled; leaves have no law and no children."""
        return tree.draft_logprobs_at(jnp.minimum(node, tree.shape.num_internal - 1))

    def next_law(self, log_q: jax.Array, x: jax.Array) -> jax.Array:
        """The law of the sibling after x."""
        return log_q if self.replacement else _exclude(log_q, x)


def _follow(tree: DraftTree, target: TargetLaws, ends: _Node, is_finite: jax.Array) -> Decision:
    """Goes down the accepted children from the root.

    Args:
      tree, target: of one row.
      ends: of every parent slot, leading axis P.
      is_finite: bool[P], whether the target's law at the slot is one.
    """
    shape = tree.shape
    parents, last = jnp.asarray(shape.parent_slots), len(shape.parent_slots) - 1

    def among_parents(node: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Index into `parents`, and whether the node is one of them."""
        index = jnp.minimum(jnp.searchsorted(parents, node), last).astype(jnp.int32)
        return index, parents[index] == node

    node, alive = jnp.asarray(0, jnp.int32), jnp.asarray(True)
    finite, empty = jnp.asarray(True), jnp.asarray(0, jnp.int32)
    path, ranks = [], []
    for _ in range(shape.depth):
        inner, can_have_children = among_parents(node)
        # An accepted node that can have children may still have none at all.
        alive &= can_have_children
        finite &= is_finite[inner] | ~alive
        empty += jnp.where(alive, ends.empty[inner], 0)
        child = jnp.where(alive, ends.accepted[inner], NO_NODE)
        alive &= child != NO_NODE
        path.append(child)
        ranks.append(jnp.where(alive, ends.rejected[inner], NO_NODE))
        node = jnp.where(alive, child, node)
    # A node that cannot have children was no place of tests: its law is the target's.
    inner, can_have_children = among_parents(node)
    bonus, is_leaf = target.at(node), ~can_have_children
    law = jnp.where(is_leaf, jnp.exp(bonus), ends.r[inner])
    num_accepted = (jnp.stack(path) != NO_NODE).sum(dtype=jnp.int32)
    finite &= is_law(bonus) | ~is_leaf
    return Decision(num_accepted, jnp.stack(path), jnp.stack(ranks), law, finite, empty)


def _exclude(log_q: jax.Array, x: jax.Array) -> jax.Array:
    """The law of the next sibling without replacement, in log space: never 1 - (drawn mass)."""
    return jax.nn.log_softmax(log_q.at[x].set(-jnp.inf))
