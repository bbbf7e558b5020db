"""A block: draft, score, verify, commit; four pure functions, each jittable alone."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from rsd_jax.core.rows import write_rows
from rsd_jax.core.sampling import block_keys
from rsd_jax.core.sharding import MeshLayout, gather_logits, inside_rows
from rsd_jax.core.tree import DraftTree
from rsd_jax.core.types import KVCache, VerifyResult
from rsd_jax.core.warp import Warp
from rsd_jax.drafters.base import Drafter, ModelParams, Models
from rsd_jax.engine.state import DecodeState, DecodeStats
from rsd_jax.engine.target_pass import places, score_tree
from rsd_jax.verifiers.base import Reads, TargetLaws, Verifier


@dataclasses.dataclass(frozen=True)
class Engine:
    """What a compiled program is keyed on besides shapes: the parts of a method.

    Attributes:
      models: target and draft, static.
      drafter: proposes trees.
      verifier: decides.
      layout: the mesh that all arrays live on, as the target is laid out; None for one device.
      draft_layout: the same mesh, as the draft model is laid out; None: as the target.
    """

    models: Models
    drafter: Drafter
    verifier: Verifier
    layout: MeshLayout | None = None
    draft_layout: MeshLayout | None = None

    def place(self, tree: Any, *, within_rows: bool = False) -> Any:
        """Inside a program: lays out every leaf, see `MeshLayout.place_buffers`.

        Args:
          tree: a pytree whose leaves have rows. The drafter's part of a `DecodeState` in it is laid
            out as the draft model is.
          within_rows: see `MeshLayout.place_buffers`.
        """
        layout, drafts = self.layout, self.draft_layout or self.layout
        if layout is None or drafts is None:
            return tree

        def place(part: Any) -> Any:
            placed = layout.place_buffers(part, within_rows=within_rows)
            if not isinstance(part, DecodeState):
                return placed
            own = drafts.place_buffers(part.drafter, within_rows=within_rows)
            return dataclasses.replace(placed, drafter=own)

        return jax.tree.map(place, tree, is_leaf=lambda part: isinstance(part, DecodeState))


@struct.dataclass
class DecodeOptions:
    """What a run asks for; traced, so that no value of it recompiles.

    Attributes:
      target_warp: from target logits to the law that is sampled.
      draft_warp: from draft logits to q.
      eos_ids: i32[E], ids that end a row, padded with negative numbers.
    """

    target_warp: Warp
    draft_warp: Warp
    eos_ids: jax.Array


def draft(
    engine: Engine, params: ModelParams, state: DecodeState, options: DecodeOptions
) -> tuple[DraftTree, DecodeState]:
    """Phase 1: a tree for every row."""
    keys = block_keys(state.row_keys, state.stats.blocks)
    tree, drafter = engine.drafter.draft(
        engine.models, params, state.drafter, state.context(), options.draft_warp, keys
    )
    if engine.draft_layout is not None and engine.draft_layout.replicated:
        # Else the compiler may split the laws as verification does, and draw from parts of them.
        tree = engine.draft_layout.place_buffers(tree, within_rows=inside_rows())
    return tree, dataclasses.replace(state, drafter=drafter)


def score(
    engine: Engine, params: ModelParams, state: DecodeState, tree: DraftTree
) -> tuple[jax.Array, DecodeState]:
    """Phase 2: one target pass over root and nodes; logits as in `target_pass.score_tree`."""
    logits, scratch = score_tree(
        engine.models.target,
        params.target,
        tree,
        state.length,
        state.target_cache,
        state.target_scratch,
        engine.drafter.pass_widths,
    )
    return gather_logits(logits), dataclasses.replace(state, target_scratch=scratch)


def _places(engine: Engine, tree: DraftTree) -> jax.Array | None:
    """i32[B, N], where the target pass put each valid node; None if in slot order."""
    return None if engine.drafter.pass_widths is None else places(tree)


def target_laws(
    engine: Engine, tree: DraftTree, logits: jax.Array, options: DecodeOptions
) -> TargetLaws:
    """The target's laws at the nodes of the trees, from the logits of `score`."""
    backend = engine.models.target.backend
    return TargetLaws(logits, options.target_warp, _places(engine, tree), backend)


def verify(
    engine: Engine,
    state: DecodeState,
    tree: DraftTree,
    logits: jax.Array,
    options: DecodeOptions,
) -> VerifyResult:
    """Phase 3: which nodes are accepted, and the token that ends the block."""
    target = target_laws(engine, tree, logits, options)
    return engine.verifier.verify(tree, target, block_keys(state.row_keys, state.stats.blocks))


@struct.dataclass
class BlockTokens:
    """What a block says, before it is known whether its row may go on.

    Attributes:
      tokens: i32[B, D + 1], accepted tokens, then the correction or bonus token; junk after it.
      is_eos: bool[B, D + 1], tokens up to that one that end a row.
    """

    tokens: jax.Array
    is_eos: jax.Array


def commit(
    engine: Engine,
    state: DecodeState,
    tree: DraftTree,
    result: VerifyResult,
    options: DecodeOptions,
) -> DecodeState:
    """Phase 4: writes tokens and caches, and decides which rows are done."""
    block = _block_tokens(state, tree, result, options)
    failed = _failed(engine.verifier.reads, state, tree, result, block)
    context = dataclasses.replace(state.context(), active=~state.done & ~failed)
    new = jnp.where(context.active, result.num_accepted + 1, 0)
    target_cache = _commit_target(engine, state, tree, result, new)
    drafter = engine.drafter.commit(engine.models, state.drafter, context, tree, result)
    depth = jnp.where(tree.valid, jnp.asarray(tree.shape.depths)[None], 0).max(axis=1)
    passes = engine.drafter.passes_of(depth)
    return dataclasses.replace(
        _commit_tokens(state, passes, result, block, failed, new),
        target_cache=target_cache,
        drafter=drafter,
    )


def _block_tokens(
    state: DecodeState, tree: DraftTree, result: VerifyResult, options: DecodeOptions
) -> BlockTokens:
    accepted = jnp.take_along_axis(tree.tokens, jnp.maximum(result.path, 0), axis=1)
    tokens = jnp.concatenate([accepted, result.next_token[:, None]], axis=1)
    order = jnp.arange(tokens.shape[1], dtype=jnp.int32)[None]
    last = result.num_accepted[:, None]
    tokens = jnp.where(order == last, result.next_token[:, None], tokens)
    is_eos = (tokens[..., None] == options.eos_ids[None, None]).any(-1) & (order <= last)
    return BlockTokens(tokens, is_eos)


def _failed(
    reads: Reads, state: DecodeState, tree: DraftTree, result: VerifyResult, block: BlockTokens
) -> jax.Array:
    """bool[B], rows whose block needs logits that define no law."""
    if reads is not Reads.REACHED:
        return ~state.done & ~(tree.finite & result.finite)
    # A walk goes no further than a node whose logits define no law, so only the last token of the
    # block comes from that node. A row that ended before that token does not need the token.
    order = jnp.arange(block.tokens.shape[1], dtype=jnp.int32)[None]
    ended_by_eos = (block.is_eos & (order < result.num_accepted[:, None])).any(axis=1)
    ended = ended_by_eos | (state.length + result.num_accepted >= state.limit)
    return ~state.done & ~(tree.finite & (result.finite | ended))


def _commit_target(
    engine: Engine, state: DecodeState, tree: DraftTree, result: VerifyResult, new: jax.Array
) -> KVCache:
    """The target's cache with the root and the accepted nodes, `new` i32[B] of them."""
    # The root's slot, 0, as a number that depends on the verdict: else XLA may write the cache
    # before the last layer has read it, and copies every buffer to be safe.
    root, nodes, at = jnp.minimum(result.next_token, 0)[:, None], result.path, _places(engine, tree)
    nodes = jnp.maximum(nodes, 0)
    nodes = nodes if at is None else jnp.take_along_axis(at, nodes, axis=1)
    slots = jnp.concatenate([root, nodes], axis=1)
    return engine.models.target.commit(
        state.target_cache, state.target_scratch, slots, state.target_cache.length, new
    )


def _commit_tokens(
    state: DecodeState,
    passes: jax.Array,
    result: VerifyResult,
    block: BlockTokens,
    failed: jax.Array,
    new: jax.Array,
) -> DecodeState:
    """The state with the block's tokens, what they end, and the counts; caches are left alone."""
    active = ~state.done & ~failed
    first_eos = jnp.argmax(block.is_eos, axis=1).astype(jnp.int32)
    any_eos = block.is_eos.any(axis=1) & active
    produced = jnp.where(any_eos, first_eos + 1, new)
    hit_eos = any_eos & (state.length + first_eos < state.limit)
    full = state.length + new >= state.limit
    return dataclasses.replace(
        state,
        # Tokens past the new length are never read: of a row that is done or failed, all of these.
        tokens=write_rows(state.tokens, block.tokens, state.length, axis=1),
        length=state.length + new,
        end=jnp.where(active, jnp.minimum(state.length + produced, state.limit), state.end),
        done=state.done | failed | (active & (any_eos | full)),
        hit_eos=state.hit_eos | hit_eos,
        failed_block=jnp.where(failed, state.stats.blocks, state.failed_block),
        stats=_count(state.stats, passes, result, active, produced),
    )


def _count(
    stats: DecodeStats,
    passes: jax.Array,
    result: VerifyResult,
    active: jax.Array,
    produced: jax.Array,
) -> DecodeStats:
    def one_hot(index: jax.Array, size: int) -> jax.Array:
        return jax.nn.one_hot(index, size, dtype=jnp.int32)

    live = active.astype(jnp.int32)
    depths = one_hot(result.num_accepted, stats.accepted_depths.shape[1])
    ranks = one_hot(result.ranks, stats.accepted_ranks.shape[1]).sum(axis=1, dtype=jnp.int32)
    return DecodeStats(
        blocks=stats.blocks + live,
        drafted=stats.drafted + passes * live,
        produced=stats.produced + produced,
        accepted_depths=stats.accepted_depths + depths * live[:, None],
        accepted_ranks=stats.accepted_ranks + ranks * live[:, None],
        empty_residuals=stats.empty_residuals + result.empty_residuals * live,
    )


def block(
    engine: Engine, params: ModelParams, state: DecodeState, options: DecodeOptions
) -> DecodeState:
    """One block of every row that is not done."""
    with jax.named_scope("draft"):
        tree, state = draft(engine, params, state, options)
    with jax.named_scope("score"):
        logits, state = score(engine, params, state, tree)
    with jax.named_scope("verify"):
        result = verify(engine, state, tree, logits, options)
    with jax.named_scope("commit"):
        return commit(engine, state, tree, result, options)
