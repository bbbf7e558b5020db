"""The interface of verifiers: a decision about one row's tree, and the draw that ends a block."""

import abc
import dataclasses
import enum
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from rsd_jax.core.backend import CPU, Backend
from rsd_jax.core.sampling import Purpose, argmax, gumbels, is_law, uniforms
from rsd_jax.core.tree import DraftTree, SiblingLaw, TreeShape
from rsd_jax.core.types import NO_NODE, VerifyResult
from rsd_jax.core.warp import Warp
from rsd_jax.errors import ConfigError


@struct.dataclass
class TargetLaws:
    """The target's laws at the nodes of a tree, warped only where they are read.

    Attributes:
      logits: f32[B, N, V], unwarped; or f32[B, W, V], only for the valid nodes, see `places`.
      warp: warp of the target.
      places: i32[B, N], index of each valid node's logits; None if logits are in slot order.
      backend: backend of the target; static.
    """

    logits: jax.Array
    warp: Warp
    places: jax.Array | None = None
    backend: Backend = struct.field(pytree_node=False, default=CPU)

    def at(self, node: jax.Array) -> jax.Array:
        """log p at one node: i32[] to f32[V]; for one row (vmap over the batch)."""
        return self.warp(self.logits[node if self.places is None else self.places[node]])

    def at_parents(self, shape: TreeShape) -> jax.Array:
        """log p at the `parent_slots` of a tree: f32[P, V]; for one row."""
        slots = shape.parent_slots
        if self.places is not None:
            return self.warp(self.logits[self.places[slots]])
        if len(slots) == shape.num_internal:
            return self.warp(self.logits[: shape.num_internal])  # a slice, not a gather
        return self.warp(self.logits[slots])

    def probabilities(self, shape: TreeShape) -> tuple[jax.Array, jax.Array]:
        """Which laws of one row are laws, bool[N], and p at the `parent_slots`, f32[P, V].

        p is 0 where the logits define no law, so that a node which the block cannot reach leaves
        no trace. Junk at invalid nodes.
        """
        log_p, finite = self.at_parents(shape), is_law(self.logits)
        finite = finite if self.places is None else finite[self.places]
        lawful = finite.at[shape.parent_slots].set(is_law(log_p))
        return lawful, jnp.where(lawful[shape.parent_slots, None], jnp.exp(log_p), 0.0)

    def by_node(self, values: jax.Array) -> jax.Array:
        """Values in the order of the logits, [B, N] or [B, W], by node, [B, N]; for a batch."""
        return values if self.places is None else jnp.take_along_axis(values, self.places, axis=1)


@struct.dataclass
class Decision:
    """A verifier's decision about the tree of one row; D and V as in `rsd_jax.core.types`.

    Attributes:
      num_accepted: i32[].
      path: i32[D], accepted nodes, padded with `NO_NODE`.
      ranks: i32[D], siblings rejected before each accepted node; padded with `NO_NODE`.
      law: f32[V], law of the correction or bonus token.
      finite: bool[], whether the target's logits define a law at all nodes of `Verifier.reads`.
      empty_residuals: i32[], children accepted because the residual was empty.
    """

    num_accepted: jax.Array
    path: jax.Array
    ranks: jax.Array
    law: jax.Array
    finite: jax.Array
    empty_residuals: jax.Array


@dataclasses.dataclass(frozen=True, eq=False)
class Stops:
    """The law of one row's block, given its tree.

    Attributes:
      mass: f32[N], the probability that the block stops at each node, all before it accepted. Of
        nodes that a verifier holds to be one, such as copies of a prefix, the first has all mass.
      law: from a node i32[] of positive mass to f32[V], the law of the token that ends the block
        there.
      finite: bool[], whether the target's laws are laws at all nodes that can be reached: that had
        mass when the verifier came to them.
      empty_residuals: i32[], children taken because rounding left no mass elsewhere.
    """

    mass: jax.Array
    law: Callable[[jax.Array], jax.Array]
    finite: jax.Array
    empty_residuals: jax.Array


class Reads(enum.Enum):
    """Nodes at which a verifier needs the target's laws; NaNs at other nodes have no effect."""

    REACHED = "reached"  # the root and the accepted nodes
    REACHABLE = "reachable"  # every node that can be accepted, given the tree
    VALID = "valid"  # every valid node


class Verifier(abc.ABC):
    """Decides which nodes of a tree to accept so that the output has exactly the target's law.

    Implementations are frozen, hashable dataclasses with `decide` for one row, or, as a
    `NodeVerifier`, with the test of one node. This class has batching, T = 0 and the final draw.
    """

    @property
    @abc.abstractmethod
    def accepts(self) -> frozenset[SiblingLaw]:
        """Ways of drawing siblings for which `decide` is lossless."""

    @property
    def reads(self) -> Reads:
        """The nodes whose laws `Decision.finite` covers."""
        return Reads.VALID

    def check_shape(self, shape: TreeShape) -> None:  # noqa: B027
        """Raises `ConfigError` for shapes that `decide` cannot take; by default for none."""

    @abc.abstractmethod
    def decide(self, tree: DraftTree, target: TargetLaws, coins: jax.Array) -> Decision:
        """Decides about the tree of one row.

        Args:
          tree: one row of a `DraftTree` (no leading B).
          target: one row of the target's laws.
          coins: f32[N], from `coins`; entry i is used only for node i.
        """

    def stops(self, tree: DraftTree, target: TargetLaws) -> Stops:
        """The law of one row's block, given its tree; for measurements, see `expected_tokens`.

        Args:
          tree, target: as in `decide`.

        Raises:
          ConfigError: the verifier does not say.
        """
        raise ConfigError(
            f"{type(self).__name__} does not say where a block stops, given its tree; write its "
            "method `stops`"
        )

    def coins(self, keys: jax.Array, num_nodes: int) -> jax.Array:
        """f32[B, N], what `decide` draws with, by `Purpose.ACCEPT`; here uniform on [0, 1).

        Args:
          keys: key[B], of the block.
          num_nodes: N.
        """
        return uniforms(keys, Purpose.ACCEPT, num_nodes)

    def verify(self, tree: DraftTree, target: TargetLaws, keys: jax.Array) -> VerifyResult:
        """Verifies the trees of a batch.

        Args:
          tree: with leading B.
          target: with leading B.
          keys: key[B], new in every block; used with `Purpose.ACCEPT` and `.EMIT`.
        """
        if target.warp.greedy:
            return greedy(tree, target)
        coins = self.coins(keys, tree.shape.num_nodes).astype(target.logits.dtype)

        def decide(row_tree: DraftTree, logits: jax.Array, places: Any, row_coins: jax.Array):
            laws = TargetLaws(logits, target.warp, places, target.backend)
            return self.decide(row_tree, laws, row_coins)

        decision = jax.vmap(decide)(tree, target.logits, target.places, coins)
        noise = gumbels(keys, Purpose.EMIT, decision.law.shape[1:])
        next_token = argmax(jnp.log(decision.law) + noise.astype(decision.law.dtype))
        return VerifyResult(
            num_accepted=decision.num_accepted,
            path=decision.path,
            ranks=decision.ranks,
            next_token=next_token,
            finite=decision.finite & jnp.isfinite(decision.law.sum(-1)),
            empty_residuals=decision.empty_residuals,
        )


def path_to(tree: DraftTree, node: jax.Array) -> jax.Array:
    """i32[D]: the nodes of one row from below the root to `node`, padded with `NO_NODE`."""
    depth, path = jnp.asarray(tree.shape.depths)[node], []
    for level in reversed(range(tree.shape.depth)):
        is_on_path = level < depth
        path.append(jnp.where(is_on_path, node, NO_NODE))
        node = jnp.where(is_on_path, tree.parents[node], node)
    return jnp.stack(path[::-1]) if path else no_path(0)


def no_path(depth: int) -> jax.Array:
    """i32[D] of `NO_NODE`."""
    return jnp.full((depth,), NO_NODE, jnp.int32)


def root_only(target: TargetLaws) -> Decision:
    """The decision for a tree that is only a root: emit from the target's law."""
    log_p = target.at(jnp.asarray(0))
    return Decision(
        num_accepted=jnp.asarray(0, jnp.int32),
        path=no_path(0),
        ranks=no_path(0),
        law=jnp.exp(log_p),
        finite=is_law(log_p),
        empty_residuals=jnp.asarray(0, jnp.int32),
    )


def greedy(tree: DraftTree, target: TargetLaws) -> VerifyResult:
    """T = 0: accepts a child iff it is the target's argmax; emits the argmax at the last node.

    Args:
      tree: with leading B.
      target: with leading B; ties go to the lowest id.
    """
    shape = tree.shape
    best, is_finite = (target.by_node(f(target.logits)) for f in (argmax, is_law))

    def walk(row: DraftTree, best: jax.Array, is_finite: jax.Array) -> tuple[jax.Array, ...]:
        slots = jnp.arange(shape.num_nodes, dtype=jnp.int32)
        node, alive, finite = jnp.asarray(0, jnp.int32), jnp.asarray(True), is_finite[0]
        path, ranks = no_path(shape.depth), no_path(shape.depth)
        for depth in range(shape.depth):
            children = (row.parents == node) & row.valid & alive
            matching = children & (row.tokens == best[node])
            child = jnp.argmax(matching).astype(jnp.int32)
            alive = matching.any()
            rank = (children & (slots < child)).sum(dtype=jnp.int32)
            node = jnp.where(alive, child, node)
            finite &= is_finite[node]
            path = path.at[depth].set(jnp.where(alive, child, NO_NODE))
            ranks = ranks.at[depth].set(jnp.where(alive, rank, NO_NODE))
        return (path != NO_NODE).sum(dtype=jnp.int32), path, ranks, best[node], finite

    num_accepted, path, ranks, next_token, finite = jax.vmap(walk)(tree, best, is_finite)
    return VerifyResult(
        num_accepted=num_accepted,
        path=path,
        ranks=ranks,
        next_token=next_token,
        finite=finite,
        empty_residuals=jnp.zeros_like(num_accepted),
    )
