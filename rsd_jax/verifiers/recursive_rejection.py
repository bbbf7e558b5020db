"""Recursive rejection sampling, RRS (Jeon et al. 2024, section 3.1; SpecInfer's multi-round SD)."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct

from rsd_jax.core.sampling import residual
from rsd_jax.core.tree import DraftTree, SiblingLaw
from rsd_jax.core.types import NO_NODE
from rsd_jax.verifiers.base import Stops, TargetLaws
from rsd_jax.verifiers.measures import Drawn, MeasureVerifier, Taken
from rsd_jax.verifiers.stops import product
from rsd_jax.verifiers.walk import NodeVerifier, Verdict, repeat


@struct.dataclass
class _Siblings:
    """State of the tests of the children of one node."""

    tested: jax.Array  # i32[], index of the next child in draw order
    rejected: jax.Array  # i32[]
    accepted: jax.Array  # i32[], the accepted child or NO_NODE
    r: jax.Array  # f32[V], residual after the rejections so far
    empty: jax.Array  # i32[], children accepted because the residual was empty


@dataclasses.dataclass(frozen=True)
class RecursiveRejection(NodeVerifier):
    """Tests the children of a node in draw order, each against the residual of earlier children.

    r_1 = p; child x_k, drawn from q_k, is accepted iff U_k q_k(x_k) < r_k(x_k), strictly, else
    r_{k+1} = N[(r_k - q_k)+]. The tree gives q_k for each child, so siblings may be drawn
    i.i.d. (SpecInfer), without replacement (RSD), from point masses, or mixed at one node.
    """

    @property
    def accepts(self) -> frozenset[SiblingLaw]:
        return frozenset(SiblingLaw)

    def stops(self, tree: DraftTree, target: TargetLaws) -> Stops:
        return _Rejections().stops(tree, target)

    def test(
        self,
        tree: DraftTree,
        node: jax.Array,
        log_p: jax.Array,
        uniforms: jax.Array,
        *,
        unrolled: bool,
    ) -> Verdict:
        none, most = tree.shape.num_nodes, tree.shape.max_siblings
        children = _children(tree, node)

        def goes_on(state: _Siblings) -> jax.Array:
            child = children[jnp.minimum(state.tested, most - 1)]
            return (state.tested < most) & (child < none) & (state.accepted == NO_NODE)

        def test_next(state: _Siblings) -> _Siblings:
            child = jnp.minimum(children[state.tested], none - 1)
            pending = (children[state.tested] < none) & (state.accepted == NO_NODE)
            x = tree.tokens[child]
            q = jnp.exp(tree.law_of(child))
            rest, mass = residual(state.r, q)
            passed = uniforms[child] * q[x] < state.r[x]
            empty = (mass[0] == 0.0) & ~passed
            accepts, rejects = pending & (passed | empty), pending & ~(passed | empty)
            return _Siblings(
                tested=state.tested + 1,
                rejected=state.rejected + rejects.astype(jnp.int32),
                accepted=jnp.where(accepts, child, state.accepted),
                r=jnp.where(rejects, rest, state.r),
                empty=state.empty + (pending & empty).astype(jnp.int32),
            )

        zero = jnp.asarray(0, jnp.int32)
        start = _Siblings(
            tested=zero,
            rejected=zero,
            accepted=jnp.asarray(NO_NODE, jnp.int32),
            r=jnp.exp(log_p),
            empty=zero,
        )
        end = repeat(goes_on, test_next, start, most=most, unrolled=unrolled)
        return Verdict(end.accepted, end.rejected, end.r, end.empty)


class _Rejections(MeasureVerifier):
    """The same tests with their probabilities: a node's weight is that of its own test.

    The residual of a node does not depend on coins, so neither does the probability that a child
    passes once its turn comes.
    """

    @property
    def accepts(self) -> frozenset[SiblingLaw]:
        return frozenset(SiblingLaw)

    def take(self, weight: jax.Array, drawn: Drawn) -> Taken:
        has_rest = drawn.rest > 0.0
        by_rounding = ~has_rest & (drawn.ratio < 1.0)
        passes = jnp.where(by_rounding, 1.0, drawn.ratio)
        factor = 1.0 / jnp.where(has_rest, drawn.rest, 1.0)
        return Taken(
            weight=weight.at[drawn.child].set(passes),
            factor=jnp.ones_like(weight).at[drawn.parent].set(factor),
            scale=jnp.ones_like(factor),
            by_rounding=by_rounding,
        )

    def masses(self, tree: DraftTree, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
        is_child, is_earlier = tree.children(), tree.earlier()
        tested = product(is_earlier, 1.0 - weight)
        reached = weight
        for _ in range(tree.shape.depth):
            above = reached[jnp.maximum(tree.parents, 0)]
            reached = jnp.where(tree.parents == NO_NODE, 1.0, above * tested * weight)
        return reached * product(is_child, 1.0 - weight), reached


def _children(tree: DraftTree, node: jax.Array) -> jax.Array:
    """i32[K]: slots of the valid children of a node in draw order, padded with N."""
    slots = jnp.arange(tree.shape.num_nodes, dtype=jnp.int32)
    is_child = (tree.parents == node) & tree.valid
    rank = jnp.cumsum(is_child, dtype=jnp.int32) - 1
    ranks = jnp.arange(tree.shape.max_siblings, dtype=jnp.int32)
    chosen = is_child[None] & (rank[None] == ranks[:, None])
    return jnp.where(chosen, slots[None], tree.shape.num_nodes).min(axis=-1)
