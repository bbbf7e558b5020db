"""Verifiers that know, given the tree, the law of the whole block: where it stops, what it emits.

A block that stops at node u emits y with a probability R_u(y), whose sum over u and y is 1. The
block is drawn in two steps: the node u with probability sum R_u, then the token from R_u / sum R_u.
"""

import abc

import jax
import jax.numpy as jnp

from rsd_jax.core.sampling import Purpose, argmax, gumbels
from rsd_jax.core.tree import DraftTree
from rsd_jax.core.types import NO_NODE
from rsd_jax.verifiers.base import Decision, Reads, Stops, TargetLaws, Verifier


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
        path, ranks = _path_to(tree, node)
        num_accepted = (path != NO_NODE).sum(dtype=jnp.int32)
        return Decision(num_accepted, path, ranks, law, finite, stops.empty_residuals)


def product(which: jax.Array, values: jax.Array) -> jax.Array:
    """f32[N]: of bool[N, N] and f32[N], entry i the product of the values j with `which[i, j]`."""
    return jnp.where(which, values[None], 1.0).prod(axis=1)


def _path_to(tree: DraftTree, node: jax.Array) -> tuple[jax.Array, jax.Array]:
    """i32[D] twice: the nodes from below the root to `node`, and how many siblings precede each."""
    depth, path, ranks = jnp.asarray(tree.shape.depths)[node], [], []
    for level in reversed(range(tree.shape.depth)):
        is_on_path = level < depth
        path.append(jnp.where(is_on_path, node, NO_NODE))
        rank = tree.earlier_siblings(node).sum(dtype=jnp.int32)
        ranks.append(jnp.where(is_on_path, rank, NO_NODE))
        node = jnp.where(is_on_path, tree.parents[node], node)
    if not path:
        return jnp.zeros((0,), jnp.int32), jnp.zeros((0,), jnp.int32)
    return jnp.stack(path[::-1]), jnp.stack(ranks[::-1])
