"""Checks the state that drafts and targets keep against passes from scratch.

A draft that reads wrong keys and values only loses acceptance, so tests of the output law miss it.
These checks find it, for a `Drafter`, a `LanguageModel` or a change to the engine.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from rsd_jax.core.prefill import prefill_cache
from rsd_jax.core.tree import DraftTree, LawsFrom
from rsd_jax.core.types import KVCache, LanguageModel, Params, VerifyResult
from rsd_jax.drafters.base import ModelParams
from rsd_jax.engine import phase_programs as programs
from rsd_jax.engine.phases import DecodeOptions, Engine
from rsd_jax.engine.state import DecodeState
from rsd_jax.engine.target_pass import places
from rsd_jax.testing.validation import with_children


@dataclasses.dataclass(frozen=True)
class Phases:
    """An engine per phase, so that a changed phase recompiles only itself."""

    draft: Engine
    score: Engine
    verify: Engine
    commit: Engine

    @classmethod
    def of(cls, engine: Engine, **other: Engine) -> "Phases":
        """`engine` in every phase, except for the engines in `other`, by phase."""
        phases = {field.name: engine for field in dataclasses.fields(cls)}
        return cls(**phases | other)


@dataclasses.dataclass(frozen=True)
class Block:
    """The observed values of one block.

    Attributes:
      before: the state before the block.
      tree: the drafted tree.
      drawn: the part of the tree that was drawn from a model's laws: all of it, unless a chain was
        merged in.
      draft_logprobs: f32[B, I, V], the laws at internal nodes of `drawn`.
      logits: f32[B, N, V], the target's logits.
      result: the result of verification.
      after: the state after the block.
    """

    before: DecodeState
    tree: DraftTree
    drawn: DraftTree
    draft_logprobs: np.ndarray
    logits: np.ndarray
    result: VerifyResult
    after: DecodeState


@jax.jit
def _copied(state: DecodeState) -> DecodeState:
    return jax.tree.map(jnp.copy, state)


@jax.jit
def _laws(tree: DraftTree) -> jax.Array:
    nodes = jnp.arange(tree.shape.num_internal, dtype=jnp.int32)
    return jax.vmap(lambda row: jax.vmap(row.draft_logprobs_at)(nodes))(tree)


def run_blocks(
    phases: Phases,
    params: ModelParams,
    state: DecodeState,
    options: DecodeOptions,
    num_blocks: int,
) -> list[Block]:
    """Runs blocks phase by phase, as the fused loop does, and records each block's values."""
    blocks = []
    for _ in range(num_blocks):
        before = state
        tree, state = programs.draft(phases.draft, params, state, options)
        logits, state = programs.score(phases.score, params, state, tree)
        result = programs.verify(phases.verify, state, tree, logits, options)
        if phases.score.drafter.pass_widths is not None:
            logits = jnp.take_along_axis(logits, places(tree)[..., None], axis=1)
        state = programs.commit(phases.commit, _copied(state), tree, result, options)
        drawn = tree.laws.tree if isinstance(tree.laws, LawsFrom) else tree
        laws = np.asarray(_laws(drawn))
        blocks.append(Block(before, tree, drawn, laws, np.asarray(logits), result, state))
    return blocks


@functools.partial(jax.jit, static_argnames=("model",))
def _last_logits(
    model: LanguageModel, params: Params, tokens: jax.Array, length: jax.Array
) -> jax.Array:
    """f32[R, V] after the first `length` tokens of i32[R, W], in one pass without a cache."""
    rows, width = tokens.shape
    positions = jnp.broadcast_to(jnp.arange(width, dtype=jnp.int32)[None], (rows, width))
    logits, _ = model.forward(
        params,
        tokens,
        positions,
        model.init_cache(rows, 0),
        model.init_scratch(rows, width),
        slot=0,
        mask=jnp.tril(jnp.ones((1, width, width), bool)),
    )
    return jnp.take_along_axis(logits, length[:, None, None] - 1, axis=1)[:, 0]


def from_scratch(
    model: LanguageModel,
    params: Params,
    block: Block,
    tree: DraftTree,
    nodes: int,
    width: int,
) -> np.ndarray:
    """Logits f32[B, nodes, V] at the first nodes of a block's tree, each from a separate row.

    Args:
      model: target or draft.
      params: of the model.
      block: the observed block.
      tree: the block's tree, or its drawn part.
      nodes: number of slots.
      width: at least the committed tokens plus the depth of the tree; static.
    """
    lengths = np.asarray(block.before.length)
    tokens, parents = np.asarray(tree.tokens), np.asarray(tree.parents)
    committed = np.asarray(block.before.tokens)
    batch = len(lengths)
    sequences = np.zeros((batch * nodes, width), np.int32)
    ends = np.zeros(batch * nodes, np.int32)
    for row in range(batch):
        for node in range(nodes):
            path, slot = [], node
            while slot != 0:
                path.append(tokens[row, slot])
                slot = parents[row, slot]
            whole = [*committed[row, : lengths[row]], *reversed(path)]
            sequences[row * nodes + node, : len(whole)] = whole
            ends[row * nodes + node] = len(whole)
    logits = _last_logits(model, params, jnp.asarray(sequences), jnp.asarray(ends))
    return np.asarray(logits).reshape(batch, nodes, -1)


@functools.partial(jax.jit, static_argnames=("model",))
def _draft_mode_logits(
    model: LanguageModel,
    params: ModelParams,
    prefix: jax.Array,
    count: jax.Array,
    path: jax.Array,
    length: jax.Array,
) -> jax.Array:
    """f32[R, V] after `length` tokens of path i32[R, W], with sub-layers skipped on the path.

    The whole model prefills the `count` tokens of `prefix` before the path.
    """
    rows, width = path.shape
    cache = prefill_cache(model, params.target, model.init_cache(*prefix.shape), prefix, count)
    positions = count[:, None] + jnp.arange(width, dtype=jnp.int32)[None]
    logits, _ = model.forward(
        params.target,
        path,
        positions,
        cache,
        model.init_scratch(rows, width),
        slot=0,
        mask=jnp.tril(jnp.ones((1, width, width), bool)),
        skips=params.skips,
    )
    return jnp.take_along_axis(logits, length[:, None, None] - 1, axis=1)[:, 0]


def self_draft_difference(block: Block, model: LanguageModel, params: ModelParams) -> float:
    """Largest difference of log q at nodes with children from draft-mode passes from scratch.

    For drafters that skip sub-layers of the target, at T = 1 without filters.
    """
    tree, lengths = block.tree, np.asarray(block.before.length)
    tokens, parents, valid = (np.asarray(x) for x in (tree.tokens, tree.parents, tree.valid))
    rows, slots = np.nonzero(valid[:, 1:])
    nodes = sorted(set(zip(rows.tolist(), parents[rows, slots + 1].tolist(), strict=True)))
    size = len(lengths) * tree.shape.num_internal  # one shape for all blocks
    path, length = np.zeros((size, tree.shape.depth), np.int32), np.ones(size, np.int32)
    of_row = np.zeros(size, int)
    for i, (row, slot) in enumerate(nodes):
        found = [slot]
        while found[-1] != 0:
            found.append(parents[row, found[-1]])
        path[i, : len(found)] = tokens[row, found[::-1]]
        length[i], of_row[i] = len(found), row
    prefix, count = np.asarray(block.before.tokens)[of_row], lengths[of_row] - 1
    arrays = map(jnp.asarray, (prefix, count, path, length))
    expected = np.asarray(jax.nn.log_softmax(_draft_mode_logits(model, params, *arrays)))
    seen = block.draft_logprobs[tuple(np.asarray(nodes).T)]
    return _worst(seen, expected[: len(nodes)], np.ones(len(nodes), bool))


def target_difference(block: Block, model: LanguageModel, params: Params, width: int) -> float:
    """Largest difference of the target's logits at valid nodes from passes from scratch."""
    tree = block.tree
    expected = from_scratch(model, params, block, tree, tree.shape.num_nodes, width)
    return _worst(block.logits, expected, np.asarray(block.tree.valid))


def draft_difference(block: Block, model: LanguageModel, params: Params, width: int) -> float:
    """Largest difference of log q at nodes with children from passes from scratch, at T = 1."""
    drawn, internal = block.drawn, block.drawn.shape.num_internal
    expected = from_scratch(model, params, block, drawn, internal, width)
    expected = expected - expected.max(-1, keepdims=True)
    expected = expected - np.log(np.exp(expected).sum(-1, keepdims=True))
    used = with_children(np.asarray(drawn.parents), np.asarray(drawn.valid))
    return _worst(block.draft_logprobs, expected, used[:, :internal])


@functools.partial(jax.jit, static_argnames=("model",))
def _fresh_cache(
    model: LanguageModel, params: Params, tokens: jax.Array, count: jax.Array
) -> KVCache:
    return prefill_cache(model, params, model.init_cache(*tokens.shape), tokens, count)


def cache_difference(
    cache: KVCache, missing: int, state: DecodeState, model: LanguageModel, params: Params
) -> float:
    """Largest difference of a cache's committed entries from the entries of a fresh prefill.

    Args:
      cache: cache of the target or of a draft.
      missing: how many of the last committed tokens are not in the cache: 1 for a target.
      state: gives the committed tokens.
      model: the model of the cache.
      params: parameters of the model.

    Returns:
      the difference; infinity if the cache's length is wrong.
    """
    count = np.maximum(np.asarray(state.length) - missing, 0)
    if not np.array_equal(cache.length, count):
        return float("inf")
    fresh = _fresh_cache(model, params, state.tokens, jnp.asarray(count, jnp.int32))
    if count.max() > cache.capacity:
        return float("inf")
    worst = 0.0
    for kept, new in zip((*cache.keys, *cache.values), (*fresh.keys, *fresh.values), strict=True):
        size = int(count.max())
        inside = (np.arange(size) < count[:, None])[:, None, :, None]
        ours, theirs = (np.where(inside, np.asarray(x)[:, :, :size], 0) for x in (kept, new))
        worst = max(worst, float(np.abs(ours - theirs).max(initial=0.0)))
    return worst


def accepts_everything(blocks: list[Block]) -> bool:
    """Whether every block accepts to full depth, as it must with the target as its own draft.

    The full depth of a row is the depth of its deepest valid node that was drawn.
    """
    return all(
        bool((np.asarray(b.result.num_accepted) >= _drafted_depth(b.drawn)).all()) for b in blocks
    )


def _drafted_depth(tree: DraftTree) -> np.ndarray:
    """i32[B], depth of the deepest valid node."""
    return np.where(np.asarray(tree.valid), tree.shape.depths, 0).max(axis=1)


def _worst(seen: np.ndarray, expected: np.ndarray, where: np.ndarray) -> float:
    """Largest absolute difference at the nodes `where`; a NaN counts as infinite."""
    difference = np.abs(seen - expected).max(-1)
    return float(np.nan_to_num(difference[where], nan=np.inf).max(initial=0.0))
