"""The walk down a tree, for verifiers that are a test of one node: the only one there is.

Two ways with the same decisions: to test each node that is reached, one after the other, or all
nodes at once, side by side, before the walk.
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
from rsd_jax.verifiers.base import Decision, Reads, TargetLaws, Verifier, root_only


class Verdict(NamedTuple):
    """What the test of a node came to; stacked, of several nodes.

    Attributes:
      child: i32[], the accepted child or `NO_NODE`.
      rank: i32[], siblings rejected before it.
      law: f32[V], probabilities to emit from if no child was accepted; without children, p.
      empty: i32[], children accepted for want of a residual.
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
      goes_on: from a state to bool[].
      step: from a state to the next one; changes nothing that is read later once the loop is over.
      state: at the start.
      most: static.
      unrolled: whether to apply it `most` times without a look at `goes_on`: no loop whose end
        depends on the data.
    """
    if not unrolled:
        return jax.lax.while_loop(goes_on, step, state)
    for _ in range(most):
        state = step(state)
    return state


@struct.dataclass
class _Walk:
    """How far a walk has come."""

    node: jax.Array  # i32[], the last accepted one
    depth: jax.Array  # i32[], accepted nodes
    ranks: jax.Array  # i32[D]
    law: Any  # f32[V], of the last verdict; () where it is not carried along
    finite: jax.Array  # bool[], whether the target's laws so far are laws
    empty: jax.Array  # i32[]
    going: jax.Array  # bool[], whether `node` is still to be looked at


def _at_root(depth: int, law: Any) -> _Walk:
    zero, true = jnp.asarray(0, jnp.int32), jnp.asarray(True)
    ranks = jnp.full((depth,), NO_NODE, jnp.int32)
    return _Walk(zero, zero, ranks, law, finite=true, empty=zero, going=true)


def _after(walk: _Walk, verdict: Verdict, finite: jax.Array) -> _Walk:
    """The walk after the verdict on its node; `finite` says whether the target's law there is one.

    Nothing changes if the walk is over.
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
    path, node = [], walk.node
    for level in reversed(range(tree.shape.depth)):
        is_on_path = level < walk.depth
        path.append(jnp.where(is_on_path, node, NO_NODE))
        node = jnp.where(is_on_path, tree.parents[node], node)
    nodes = jnp.stack(path[::-1])
    return Decision(walk.depth, nodes, walk.ranks, walk.law, walk.finite, walk.empty)


@dataclasses.dataclass(frozen=True)
class NodeVerifier(Verifier):
    """A verifier that goes from node to accepted child; subclasses write the `test` of one node.

    Attributes:
      all_nodes: whether all nodes are tested at once or only those that are reached; the decisions
        are the same. None: all at once for chains, and where `Backend.all_nodes` says so.
    """

    all_nodes: bool | None = None

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
          tree: of one row.
          node: i32[], any slot that can have children, or a leaf that was reached.
          log_p: f32[V], the target's law there, which may be none.
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
        # For chains all at once is faster on a CPU too (1.9 times at batch 8).
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
            """Where the node's verdict is, and whether there is one: not for slots of leaves."""
            return jnp.minimum(places[node], len(nodes) - 1), places[node] < len(nodes)

        walk, integers = _at_root(shape.depth, ()), verdicts._replace(law=())
        for _ in range(shape.depth):
            place, tested = look_up(walk.node)
            verdict = jax.tree.map(lambda leaf, place=place: leaf[place], integers)
            walk = dataclasses.replace(walk, going=walk.going & tested)
            walk = _after(walk, verdict, is_finite[place])
        # Else XLA repeats the whole walk for every entry of the law that is read at its end.
        walk = jax.lax.optimization_barrier(walk)
        # No verdict where no child is possible: what is emitted there has the target's law.
        place, tested = look_up(walk.node)
        bonus = target.at(walk.node)
        law = jnp.where(tested, verdicts.law[place], jnp.exp(bonus))
        finite = walk.finite & (is_law(bonus) | tested)
        return _decision(tree, dataclasses.replace(walk, law=law, finite=finite))
