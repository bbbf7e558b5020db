"""Faults of a search while decoding, each an `Advance` that runs in place of `decoding.advance`."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from rsd_jax.core.tree import DenseLaws
from rsd_jax.drafters.base import ModelParams
from rsd_jax.engine import decoding, phases
from rsd_jax.engine.phases import DecodeOptions, Engine
from rsd_jax.engine.state import DecodeState
from tests.mutants.engine_mutants import skipping


class SetChangedInsideBlocks:
    """Trees are drafted with the last block's set, but their laws are of the current set.

    For trees with dense laws, one block per call.
    """

    def __init__(self):
        self._last: jax.Array | None = None

    def __call__(
        self,
        engine: Engine,
        params: ModelParams,
        state: DecodeState,
        options: DecodeOptions,
        max_blocks: Any,
    ) -> DecodeState:
        assert max_blocks == 1
        last = params.skips if self._last is None else self._last
        self._last = params.skips
        return _mixed_block(engine, dataclasses.replace(params, skips=last), params, state, options)


@functools.partial(jax.jit, static_argnames="engine")
def _mixed_block(
    engine: Engine,
    last: ModelParams,
    params: ModelParams,
    state: DecodeState,
    options: DecodeOptions,
) -> DecodeState:
    tree, state = phases.draft(engine, last, state, options)
    logits, _ = phases.score(skipping(engine, params.skips), params, state, tree)
    laws = options.draft_warp(logits[:, : tree.shape.num_internal])
    tree = dataclasses.replace(tree, laws=DenseLaws(logprobs=laws))
    logits, state = phases.score(engine, params, state, tree)
    result = phases.verify(engine, state, tree, logits, options)
    return phases.commit(engine, state, tree, result, options)


@dataclasses.dataclass(frozen=True)
class DraftModeKeysKept:
    """A candidate's pass leaves its keys and values in the target's cache.

    Attributes:
      context: C of the search.
    """

    context: int

    def __call__(
        self,
        engine: Engine,
        params: ModelParams,
        state: DecodeState,
        options: DecodeOptions,
        max_blocks: Any,
    ) -> DecodeState:
        state = _keep_draft_mode_keys(engine, params, state, self.context)
        return decoding.advance(engine, params, state, options, max_blocks, decoding.UNLIMITED)


@functools.partial(jax.jit, static_argnames=("engine", "context"))
def _keep_draft_mode_keys(
    engine: Engine, params: ModelParams, state: DecodeState, context: int
) -> DecodeState:
    """Uses the current set as the candidate, in every row that is long enough."""
    model, cache, start = engine.models.target, state.target_cache, state.prompt_length
    batch = len(start)
    order = jnp.broadcast_to(jnp.arange(context, dtype=jnp.int32)[None], (batch, context))
    positions = start[:, None] + order
    _, scratch = model.forward(
        params.target,
        jnp.take_along_axis(state.tokens, positions, axis=1),
        positions,
        dataclasses.replace(cache, length=start),
        model.init_scratch(batch, context),
        slot=0,
        mask=jnp.tril(jnp.ones((1, context, context), bool)),
        skips=params.skips,
    )
    kept = model.commit(cache, scratch, order, start, jnp.zeros_like(start))
    usable = (state.length - start > context + 1)[:, None, None, None]
    keys, values = (
        tuple(jnp.where(usable, new, old) for new, old in zip(*pair, strict=True))
        for pair in ((kept.keys, cache.keys), (kept.values, cache.values))
    )
    cache = dataclasses.replace(cache, keys=keys, values=values)
    return dataclasses.replace(state, target_cache=cache)
