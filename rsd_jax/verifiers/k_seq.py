"""K-SEQ, SpecTr's sequential selection (Sun et al. 2023, section 5 and algorithm 2)."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rsd_jax.core.sampling import is_law
from rsd_jax.core.tree import DraftTree, SiblingLaw, TreeShape
from rsd_jax.core.types import NO_NODE
from rsd_jax.errors import ConfigError
from rsd_jax.verifiers.base import Stops, TargetLaws
from rsd_jax.verifiers.stops import law_of_stop
from rsd_jax.verifiers.walk import NodeVerifier, Verdict

_BISECTIONS = 24


def _overlap(p: jax.Array, q: jax.Array, rho: jax.Array) -> jax.Array:
    """beta(rho) = sum min(q, p / rho): acceptance of one draw."""
    return jnp.minimum(q, p / rho).sum()


def _any_of(beta: jax.Array, k: jax.Array) -> jax.Array:
    """1 - (1 - beta)^k."""
    return -jnp.expm1(k * jnp.log1p(-jnp.minimum(beta, 1.0)))


def division_factor(p: jax.Array, q: jax.Array, k: jax.Array) -> jax.Array:
    """rho* in [1, k] with 1 - (1 - beta)^k = rho beta, rounded up by bisection.

    Every rho >= rho* is valid, every rho < rho* is not.

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


def _chains(shape: TreeShape) -> np.ndarray:
    """i32[D + 1, K]: slot of every draft at every depth; at depth 0 the root for all drafts."""
    drafts = np.arange(max(shape.widths), dtype=np.int32)
    levels = zip(shape.starts, shape.widths, strict=True)
    return np.stack([np.int32(start) + drafts % np.int32(width) for start, width in levels])


def _alive(tree: DraftTree, node: jax.Array) -> jax.Array:
    """bool[K]: the drafts that agree with `node`'s prefix down to the depth of `node`."""
    shape, chains = tree.shape, _chains(tree.shape)
    depths = jnp.asarray(shape.depths)
    draft = node - jnp.asarray(shape.starts, jnp.int32)[depths[node]]
    tokens, valid = tree.tokens[chains], tree.valid[chains]
    agree = (tokens == tokens[:, draft, None]) & valid & valid[:, draft, None]
    is_deeper = jnp.arange(shape.depth + 1, dtype=jnp.int32) > depths[node]
    return (agree.at[0].set(True) | is_deeper[:, None]).all(axis=0)


class _Drafts(NamedTuple):
    """The drafts at one node, in index order."""

    slots: jax.Array  # i32[K], one level below
    tokens: jax.Array  # i32[K]
    tested: jax.Array  # bool[K], those that are alive and go on
    p: jax.Array  # f32[V]
    q: jax.Array  # f32[V]
    rho: jax.Array  # f32[]
    rest: jax.Array  # f32[V], the law if none is accepted


def _at(tree: DraftTree, node: jax.Array, p: jax.Array) -> _Drafts:
    """The drafts at one node, i32[], with the target's law p there, f32[V]."""
    depth, level = tree.shape.depth, jnp.asarray(tree.shape.depths)[node]
    below = jnp.asarray(_chains(tree.shape))[jnp.minimum(level + 1, depth)]
    tested = _alive(tree, node) & tree.valid[below] & (level < depth)
    q = jnp.exp(tree.draft_logprobs_at(jnp.minimum(node, tree.shape.num_internal - 1)))
    k = jnp.maximum(tested.sum(), 1).astype(p.dtype)
    rho = division_factor(p, q, k)
    rest = k_seq_residual(p, q, rho, k)
    return _Drafts(below, tree.tokens[below], tested, p, q, rho, rest)


def _odds(drafts: _Drafts, num_nodes: int) -> tuple[jax.Array, jax.Array]:
    """f32[], the probability that no draft is accepted; f32[N], that of each slot below.

    Drafts with the same token are one node, in the first one's slot.
    """
    q = drafts.rho * drafts.q[drafts.tokens]
    ratio = jnp.minimum(1, drafts.p[drafts.tokens] / jnp.where(q > 0, q, 1))
    fails = 1 - jnp.where(drafts.tested, ratio, 0)
    before = jnp.concatenate([jnp.ones_like(fails[:1]), jnp.cumprod(fails)[:-1]])
    wins = before * (1 - fails)
    ends = fails.prod()
    # As in `KSeq.test`: without a residual the first draft is accepted.
    certain = drafts.tested.any() & jnp.isnan(drafts.rest.sum())
    wins = wins.at[jnp.argmax(drafts.tested)].add(jnp.where(certain, ends, 0))
    same = drafts.tested[None] & (drafts.tokens[:, None] == drafts.tokens[None])
    slots = jnp.where(drafts.tested, drafts.slots[jnp.argmax(same, axis=1)], num_nodes)
    passes = jnp.zeros((num_nodes,), q.dtype).at[slots].add(wins, mode="drop")
    return jnp.where(certain, 0, ends), passes


@dataclasses.dataclass(frozen=True)
class KSeq(NodeVerifier):
    """Walks i.i.d. chains depth by depth.

    The alive drafts of a node are all drafts whose prefix equals the accepted prefix, also copies
    that were rejected earlier; their number is the K of the node. In index order, each is accepted
    with probability min(1, p / (rho* q)). The accepted child is the slot of the first alive draft
    with the accepted token.
    """

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

    def test(
        self,
        tree: DraftTree,
        node: jax.Array,
        log_p: jax.Array,
        uniforms: jax.Array,
        *,
        unrolled: bool,
    ) -> Verdict:
        drafts = _at(tree, node, jnp.exp(log_p))
        tested, x = drafts.tested, drafts.tokens
        passed = tested & (uniforms[drafts.slots] * drafts.rho * drafts.q[x] < drafts.p[x])
        # A residual without mass (only if p = q) cannot be emitted from: accept the first draft.
        empty = tested.any() & ~passed.any() & jnp.isnan(drafts.rest.sum()) & is_law(log_p)
        passed |= tested & empty
        winner = jnp.argmax(passed).astype(jnp.int32)
        order = jnp.arange(tested.shape[0], dtype=jnp.int32)
        same = tested & (x == x[winner])
        return Verdict(
            child=jnp.where(passed.any(), drafts.slots[jnp.argmax(same)], NO_NODE),
            rank=(tested & (order < winner)).sum(dtype=jnp.int32),
            law=jnp.where(tested.any(), drafts.rest, drafts.p),
            empty=empty.astype(jnp.int32),
        )

    def stops(self, tree: DraftTree, target: TargetLaws) -> Stops:
        shape, slots = tree.shape, jnp.asarray(tree.shape.parent_slots)
        lawful, p = target.probabilities(shape)
        drafts = jax.vmap(functools.partial(_at, tree))(slots, p)
        ends, passes = jax.vmap(_odds, in_axes=(0, None))(drafts, shape.num_nodes)
        root = (jnp.arange(shape.num_nodes) == 0).astype(p.dtype)
        reached = root
        for _ in range(shape.depth):
            reached = root + jnp.einsum("p,pn->n", reached[slots], passes)

        def law(node: jax.Array) -> jax.Array:
            def rest(place: jax.Array) -> jax.Array:
                return jnp.where(drafts.tested[place].any(), drafts.rest[place], drafts.p[place])

            return law_of_stop(tree, target, node, rest)

        mass = reached * jnp.ones_like(reached).at[slots].set(ends)
        finite = (lawful | (reached == 0.0)).all()
        return Stops(mass, law, finite, jnp.zeros((), jnp.int32))
