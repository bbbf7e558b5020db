"""K-SEQ, SpecTr's sequential selection (Sun et al. 2023, section 5 and algorithm 2)."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rsd_jax.core.sampling import is_law
from rsd_jax.core.tree import DraftTree, SiblingLaw, TreeShape
from rsd_jax.core.types import NO_NODE
from rsd_jax.errors import ConfigError
from rsd_jax.verifiers.base import (
    Decision,
    TargetLaws,
    Verifier,
    no_path,
    root_only,
    tests_all_nodes,
)

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


class _Node(NamedTuple):
    """What the tests at one node came to; of one node or, stacked, of several."""

    accepted: jax.Array  # bool[], whether a draft was accepted
    winner: jax.Array  # i32[], which one
    rank: jax.Array  # i32[], drafts rejected before it
    law: jax.Array  # f32[V], what is emitted if none was
    empty: jax.Array  # bool[], accepted only because the residual has no mass


def _test_drafts(
    tree: DraftTree,
    log_p: jax.Array,
    node: jax.Array,
    below: jax.Array,
    tested: jax.Array,
    uniforms: jax.Array,
) -> _Node:
    """Tests the drafts that pass through one node, in index order.

    Args:
      tree: of one row.
      log_p: f32[V], the target's law at the node.
      node: i32[], its slot.
      below: i32[K], slot of each draft one level further down.
      tested: bool[K], the drafts that pass through the node and go on.
      uniforms: f32[N].
    """
    p = jnp.exp(log_p)
    q = jnp.exp(tree.draft_logprobs_at(jnp.minimum(node, tree.shape.num_internal - 1)))
    k = jnp.maximum(tested.sum(), 1).astype(p.dtype)
    rho = division_factor(p, q, k)
    rest = k_seq_residual(p, q, rho, k)
    x = tree.tokens[below]
    passed = tested & (uniforms[below] * rho * q[x] < p[x])
    # A residual without mass (only if p = q) leaves nothing to emit: accept the first.
    empty = tested.any() & ~passed.any() & jnp.isnan(rest.sum()) & is_law(log_p)
    passed |= tested & empty
    winner = jnp.argmax(passed).astype(jnp.int32)
    order = jnp.arange(tested.shape[0], dtype=jnp.int32)
    rank = (tested & (order < winner)).sum(dtype=jnp.int32)
    return _Node(passed.any(), winner, rank, jnp.where(tested.any(), rest, p), empty)


def _chains(shape: TreeShape) -> np.ndarray:
    """i32[D + 1, K]: slot of every draft at every depth, the root standing for all at depth 0."""
    drafts = np.arange(max(shape.widths), dtype=np.int32)
    levels = zip(shape.starts, shape.widths, strict=True)
    return np.stack([np.int32(start) + drafts % np.int32(width) for start, width in levels])


@dataclasses.dataclass(frozen=True)
class KSeq(Verifier):
    """Walks i.i.d. chains depth by depth.

    At each depth the alive drafts are all whose prefix equals the accepted one, copies that
    were rejected earlier included; their number is the K of the node. Each is accepted with
    probability min(1, p / (rho* q)), in index order.

    Attributes:
      all_nodes: whether the drafts of all nodes are tested at once or only those of nodes that
        are reached; the decisions are the same. None leaves it to `tests_all_nodes`.
    """

    all_nodes: bool | None = None

    @property
    def accepts(self) -> frozenset[SiblingLaw]:
        return frozenset({SiblingLaw.NONE, SiblingLaw.IID})

    def check_shape(self, shape: TreeShape) -> None:
        branching = shape.branching
        if branching is None or any(b != 1 for b in branching[1:]):
            raise ConfigError(
                f"KSeq verifies independent chains, branching (K, 1, ..., 1); got a tree of "
                f"branching {branching}"
            )

    def decide(self, tree: DraftTree, target: TargetLaws, uniforms: jax.Array) -> Decision:
        if tree.shape.depth == 0:
            return root_only(target)
        chain = tree.shape.max_siblings == 1
        if tests_all_nodes(self.all_nodes, chain, target.backend):
            return self._decide_all(tree, target, uniforms)
        return self._decide_reached(tree, target, uniforms)

    def _decide_reached(self, tree: DraftTree, target: TargetLaws, uniforms: jax.Array) -> Decision:
        """Walks down from the root, as far as drafts are accepted."""
        depth, chains = tree.shape.depth, jnp.asarray(_chains(tree.shape))

        def descend(state):
            level, alive, ranks, _, finite, empty, _ = state
            node = chains[level, jnp.argmax(alive)]
            log_p = target.at(node)
            finite &= is_law(log_p)
            below = chains[jnp.minimum(level + 1, depth)]
            tested = alive & tree.valid[below] & (level < depth)
            end = _test_drafts(tree, log_p, node, below, tested, uniforms)
            ranks = ranks.at[level].set(jnp.where(end.accepted, end.rank, NO_NODE), mode="drop")
            same = tree.tokens[below] == tree.tokens[below[end.winner]]
            alive &= same | ~end.accepted
            empty += end.empty.astype(jnp.int32)
            return level + 1, alive, ranks, end.law, finite, empty, end.accepted

        zero = jnp.asarray(0, jnp.int32)
        law = jnp.zeros(target.logits.shape[-1:], target.logits.dtype)
        start = (
            zero,
            jnp.ones(chains.shape[1:], bool),
            no_path(depth),
            law,
            jnp.asarray(True),
            zero,
            jnp.asarray(True),
        )
        end = jax.lax.while_loop(lambda state: state[-1], descend, start)
        levels, alive, ranks, law, finite, empty, _ = end
        path = _path(chains, alive, levels - 1)
        return Decision(levels - 1, path, ranks, law, finite, empty)

    def _decide_all(self, tree: DraftTree, target: TargetLaws, uniforms: jax.Array) -> Decision:
        """Tests the drafts of every internal node at once; then walks."""
        shape, chains = tree.shape, _chains(tree.shape)
        # Of each internal slot, statically: its depth, its draft, the slots one level down.
        level = shape.depths[: shape.num_internal]
        draft = np.arange(shape.num_internal) - np.asarray(shape.starts)[level]
        below = jnp.asarray(chains[level + 1])
        sharing = _sharing_prefix(tree, chains)
        alive = sharing[level, draft]
        # Drafts that agree so far are one node: the slot of the first of them stands for it.
        node = jnp.asarray(chains)[level, jnp.argmax(alive, axis=1)]
        log_p = target.at_parents(shape)
        ends = jax.vmap(_test_drafts, in_axes=(None, 0, 0, 0, 0, None))(
            tree, log_p[node], node, below, alive & tree.valid[below], uniforms
        )

        chosen, going = jnp.asarray(0, jnp.int32), jnp.asarray(True)
        finite, empty = jnp.asarray(True), jnp.asarray(0, jnp.int32)
        law, ranks = jnp.zeros_like(log_p[0]), []
        for depth in range(shape.depth):
            slot = jnp.asarray(chains)[depth, chosen]
            end = jax.tree.map(lambda leaf, slot=slot: leaf[slot], ends)
            finite &= is_law(log_p[node[slot]]) | ~going
            law = jnp.where(going, end.law, law)
            empty += (going & end.empty).astype(jnp.int32)
            going &= end.accepted
            chosen = jnp.where(going, end.winner, chosen)
            ranks.append(jnp.where(going, end.rank, NO_NODE))
        num_accepted = (jnp.stack(ranks) != NO_NODE).sum(dtype=jnp.int32)
        alive = sharing[num_accepted, chosen]
        bonus = target.at(jnp.asarray(chains)[shape.depth, jnp.argmax(alive)])
        law, finite = jnp.where(going, jnp.exp(bonus), law), finite & (is_law(bonus) | ~going)
        path = _path(jnp.asarray(chains), alive, num_accepted)
        return Decision(num_accepted, path, jnp.stack(ranks), law, finite, empty)


def _sharing_prefix(tree: DraftTree, chains: np.ndarray) -> jax.Array:
    """bool[D + 1, K, K]: whether two drafts agree in their first d tokens, both being valid."""
    tokens, valid = tree.tokens[chains], tree.valid[chains]
    agree = (tokens[:, :, None] == tokens[:, None]) & valid[:, :, None] & valid[:, None]
    return jnp.cumprod(agree.at[0].set(True), axis=0, dtype=jnp.int32).astype(bool)


def _path(chains: jax.Array, alive: jax.Array, num_accepted: jax.Array) -> jax.Array:
    """i32[D]: every alive draft carries the accepted tokens; the first one's slots are taken."""
    counted = jnp.arange(chains.shape[0] - 1, dtype=jnp.int32) < num_accepted
    return jnp.where(counted, chains[1:, jnp.argmax(alive)], NO_NODE)
