"""The walk down a tree, for all verifiers that test one node at a time.

There are two ways with the same decisions: each reached node is tested during the walk, or all
nodes are tested in parallel before the walk.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from rsd_jax.core.sampling import is_law
from rsd_jax.core.tree import DraftTree
from rsd_jax.core.types import NO_NODE
from rsd_jax.verifiers.base import Decision, Reads, TargetLaws, Verifier, path_to, root_only


class Verdict(NamedTuple):
    """The result of the test of a node, or, with a leading axis, of several nodes.

    Attributes:
      child: i32[], the accepted child or `NO_NODE`.
      rank: i32[], siblings rejected before `child`.
      law: f32[V], probabilities to emit from if no child was accepted; without children, p.
      empty: i32[], children accepted because the residual was empty.
    """

    child: jax.Array
    rank: jax.Array
    law: Any
    empty: jax.Array


def repeat(
    goes_on: Callable[[Any], jax.Array],
    step: Callable[[Any], Any],
    state: Any,
    *,
    most: int,
    unrolled: bool,
) -> Any:
    """Applies `step` while `goes_on`, at most `most` times.

    Args:
      goes_on: maps a state to bool[].
      step: maps a state to the next state; must not change what is read once `goes_on` is false.
      state: the first state.
      most: static; `goes_on` must be false after `most` steps.
      unrolled: whether to apply `step` exactly `most` times, without `goes_on`, so that no loop
        depends on the data.
    """
    if not unrolled:
        return jax.lax.while_loop(goes_on, step, state)
    for _ in range(most):
        state = step(state)
    return state


@struct.dataclass
class _Walk:
    """State of a walk."""

    node: jax.Array  # i32[], the last accepted node, or the root
    depth: jax.Array  # i32[], number of accepted nodes
    ranks: jax.Array  # i32[D]
    law: Any  # f32[V], of the last verdict; () if laws are not carried
    finite: jax.Array  # bool[], whether the target's logits so far define laws
    empty: jax.Array  # i32[]
    going: jax.Array  # bool[], whether the children of `node` are still to be tested


def _at_root(depth: int, law: Any) -> _Walk:
    zero, true = jnp.asarray(0, jnp.int32), jnp.asarray(True)
    ranks = jnp.full((depth,), NO_NODE, jnp.int32)
    return _Walk(zero, zero, ranks, law, finite=true, empty=zero, going=true)


def _after(walk: _Walk, verdict: Verdict, finite: jax.Array) -> _Walk:
    """The walk after the verdict on its node; `finite`: whether the target's logits define a law.

    A finished walk does not change, except for `law`.
    """
    accepted = walk.going & (verdict.child != NO_NODE)
    is_here = jnp.arange(walk.ranks.shape[0], dtype=jnp.int32) == walk.depth
    return _Walk(
        node=jnp.where(accepted, verdict.child, walk.node),
        depth=walk.depth + accepted.astype(jnp.int32),
        ranks=jnp.where(is_here & accepted, verdict.rank, walk.ranks),
        law=verdict.law,
        finite=walk.finite & (finite | ~walk.going),
        empty=walk.empty + jnp.where(walk.going, verdict.empty, 0),
        going=accepted,
    )


def _decision(tree: DraftTree, walk: _Walk) -> Decision:
    nodes = path_to(tree, walk.node)
    return Decision(walk.depth, nodes, walk.ranks, walk.law, walk.finite, walk.empty)


@dataclasses.dataclass(frozen=True)
class NodeVerifier(Verifier):
    """A verifier that walks from node to accepted child; subclasses write the `test` of one node.

    Attributes:
      all_nodes: whether all nodes are tested at once, or only reached nodes; the decisions are the
        same. None: all at once for chains, and if `Backend.all_nodes`. Given by name, so that the
        first argument of a subclass is the subclass's own first field.
    """

    all_nodes: bool | None = dataclasses.field(default=None, kw_only=True)

    @property
    def reads(self) -> Reads:
        return Reads.REACHED

    @abc.abstractmethod
    def test(
        self,
        tree: DraftTree,
        node: jax.Array,
        log_p: jax.Array,
        uniforms: jax.Array,
        *,
        unrolled: bool,
    ) -> Verdict:
        """Tests the children of one node.

        Args:
          tree: tree of one row.
          node: i32[], a slot that can have children, or a reached leaf.
          log_p: f32[V], the target's law at `node`; NaN or all -inf if its logits define no law.
          uniforms: f32[N], as in `decide`.
          unrolled: whether a loop over children must have a static length; see `repeat`.
        """

    def decide(self, tree: DraftTree, target: TargetLaws, uniforms: jax.Array) -> Decision:
        if tree.shape.depth == 0:
            return root_only(target)
        if self._all_at_once(tree, target):
            return self._decide_all(tree, target, uniforms)
        return self._decide_reached(tree, target, uniforms)

    def _all_at_once(self, tree: DraftTree, target: TargetLaws) -> bool:
        if self.all_nodes is not None:
            return self.all_nodes
        # For chains, testing all nodes at once is faster on a CPU too (1.9 times at batch 8).
        return target.backend.all_nodes or tree.shape.max_siblings == 1

    def _decide_reached(self, tree: DraftTree, target: TargetLaws, uniforms: jax.Array) -> Decision:
        def descend(walk: _Walk) -> _Walk:
            log_p = target.at(walk.node)
            verdict = self.test(tree, walk.node, log_p, uniforms, unrolled=False)
            return _after(walk, verdict, is_law(log_p))

        law = jnp.zeros(target.logits.shape[-1:], target.logits.dtype)
        start = _at_root(tree.shape.depth, law)
        return _decision(tree, jax.lax.while_loop(lambda walk: walk.going, descend, start))

    def _decide_all(self, tree: DraftTree, target: TargetLaws, uniforms: jax.Array) -> Decision:
        shape = tree.shape
        nodes, places = jnp.asarray(shape.parent_slots), jnp.asarray(shape.parent_index)
        log_p = target.at_parents(shape)

        def test(node: jax.Array, log_p: jax.Array) -> Verdict:
            return self.test(tree, node, log_p, uniforms, unrolled=True)

        verdicts, is_finite = jax.vmap(test)(nodes, log_p), is_law(log_p)

        def look_up(node: jax.Array) -> tuple[jax.Array, jax.Array]:
            """Index of the node's verdict, and whether it exists; slots of leaves have none."""
            return jnp.minimum(places[node], len(nodes) - 1), places[node] < len(nodes)

        walk, integers = _at_root(shape.depth, ()), verdicts._replace(law=())
        for _ in range(shape.depth):
            place, tested = look_up(walk.node)
            verdict = jax.tree.map(lambda leaf, place=place: leaf[place], integers)
            walk = dataclasses.replace(walk, going=walk.going & tested)
            walk = _after(walk, verdict, is_finite[place])
        # Without the barrier XLA repeats the whole walk for every entry of the law.
        walk = jax.lax.optimization_barrier(walk)
        # Slots of leaves have no verdict; there the token is emitted from the target's law.
        place, tested = look_up(walk.node)
        bonus = target.at(walk.node)
        law = jnp.where(tested, verdicts.law[place], jnp.exp(bonus))
        finite = walk.finite & (is_law(bonus) | tested)
        return _decision(tree, dataclasses.replace(walk, law=law, finite=finite))
