"""Verifiers that know, given the tree, the law of the whole block: where it stops, what it emits.

A block that stops at node u emits y with a probability R_u(y), whose sum over u and y is 1. The
block is drawn in two steps: the node u with probability sum R_u, then the token from R_u / sum R_u.
"""

import abc
from collections.abc import Callable

import jax
import jax.numpy as jnp

from rsd_jax.core.sampling import Purpose, argmax, gumbels
from rsd_jax.core.tree import DraftTree
from rsd_jax.core.types import NO_NODE
from rsd_jax.verifiers.base import Decision, Reads, Stops, TargetLaws, Verifier, path_to


class StopVerifier(Verifier):
    """A verifier that draws the block from its law; subclasses write `stops`."""

    @property
    def reads(self) -> Reads:
        return Reads.REACHABLE

    @abc.abstractmethod
    def stops(self, tree: DraftTree, target: TargetLaws) -> Stops:
        """The law of one row's block, given its tree; all arguments as in `decide`."""

    def coins(self, keys: jax.Array, num_nodes: int) -> jax.Array:
        """Gumbel noise, so that the node is drawn by an argmax; see `Verifier.coins`."""
        return gumbels(keys, Purpose.ACCEPT, (num_nodes,))

    def decide(self, tree: DraftTree, target: TargetLaws, coins: jax.Array) -> Decision:
        stops = self.stops(tree, target)
        node = argmax(jnp.log(stops.mass) + coins)
        law = stops.law(node)
        finite = stops.finite & jnp.isfinite(stops.mass.sum()) & jnp.isfinite(law.sum())
        path = path_to(tree, node)
        ranks = jax.vmap(tree.earlier_siblings)(path).sum(axis=1, dtype=jnp.int32)
        ranks = jnp.where(path == NO_NODE, NO_NODE, ranks)
        num_accepted = (path != NO_NODE).sum(dtype=jnp.int32)
        return Decision(num_accepted, path, ranks, law, finite, stops.empty_residuals)


def product(which: jax.Array, values: jax.Array) -> jax.Array:
    """f32[N]: of bool[N, N] and f32[N], entry i the product of the values j with `which[i, j]`."""
    return jnp.where(which, values[None], 1.0).prod(axis=1)


def law_of_stop(
    tree: DraftTree, target: TargetLaws, node: jax.Array, measures: Callable[[jax.Array], jax.Array]
) -> jax.Array:
    """f32[V]: the law of the token that ends the block at one node.

    Args:
      tree, target: of one row.
      node: i32[].
      measures: from a place among the `parent_slots`, i32[], to f32[V], a multiple of the law. The
        law is p at all other nodes; where rounding left nothing of a tiny measure; and where the
        measure is NaN, as the draft's law at a node without children may be anything.
    """
    place, last = jnp.asarray(tree.shape.parent_index)[node], len(tree.shape.parent_slots) - 1
    measure = measures(jnp.minimum(place, last))
    is_kept = (place <= last) & (measure.sum() > 0.0)
    measure = jnp.where(is_kept, measure, jnp.exp(target.at(node)))
    return measure / measure.sum()
