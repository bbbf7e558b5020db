"""The decode loop: prefill, blocks, and new prompts for rows that are done; three programs."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from rsd_jax.core.prefill import PREFILL_CHUNK, prefill_cache
from rsd_jax.core.sampling import row_keys
from rsd_jax.core.sharding import over_rows
from rsd_jax.drafters.base import Drafter, ModelParams
from rsd_jax.engine.phases import DecodeOptions, Engine, block
from rsd_jax.engine.state import DecodeState, Prompts, never, zero_stats
from rsd_jax.engine.target_pass import scratch_slots

UNLIMITED = np.int32(2**31 - 1)
"""A number of blocks, and of rows that are done, that no run reaches."""


def goes_on(done: jax.Array, most_done: jax.Array) -> jax.Array:
    """bool[]: whether blocks go on with these rows done, bool[B]; `most_done` as in `advance`."""
    return ~done.all() & (done.sum(dtype=jnp.int32) <= most_done)


def required_capacity(drafter: Drafter, prompt_length: int, max_new_tokens: int) -> int:
    """Positions that a row needs so that no write, counted or not, reaches past the end.

    The last block may overrun max_new_tokens by D, a write is D + 1 wide, and the last prefill
    chunk is written whole.
    """
    overrun = 2 * (drafter.shape.depth + 1)
    return prompt_length + max(max_new_tokens + overrun, PREFILL_CHUNK)


@functools.partial(jax.jit, static_argnames=("engine",))
def prefill(engine: Engine, params: ModelParams, seed: jax.Array, prompts: Prompts) -> DecodeState:
    """Takes in a batch of prompts.

    Args:
      engine: static.
      params: of the models.
      seed: i32[] or u32[].
      prompts: a row without a prompt is padding and is done from the start.

    Returns:
      the state before the first block.
    """

    @over_rows(engine.layout, engine.place)
    def run(params: ModelParams, seed: jax.Array, *, prompts: Prompts) -> DecodeState:
        return _begin(engine, params, seed, prompts)

    return run(params, seed, prompts=prompts)


def _begin(engine: Engine, params: ModelParams, seed: jax.Array, prompts: Prompts) -> DecodeState:
    """The state of rows before their first block, the prompts in the caches."""
    batch, capacity = prompts.tokens.shape
    models, drafter = engine.models, engine.drafter
    length = jnp.maximum(prompts.length, 1)
    state = DecodeState(
        tokens=jnp.asarray(prompts.tokens),
        prompt_length=length,
        limit=length + prompts.max_new_tokens,
        length=length,
        end=length,
        done=jnp.asarray(prompts.length == 0),
        hit_eos=jnp.zeros((batch,), bool),
        failed_block=never(batch),
        target_cache=models.target.init_cache(batch, capacity),
        target_scratch=models.target.init_scratch(
            batch, scratch_slots(drafter.shape, drafter.pass_widths)
        ),
        drafter=drafter.init(models, batch, capacity),
        row_keys=row_keys(seed, jnp.asarray(prompts.request_ids)),
        stats=zero_stats(drafter.shape, batch),
    )
    with jax.named_scope("prefill"):
        cache = prefill_cache(
            models.target, params.target, state.target_cache, state.tokens, length - 1
        )
        state = dataclasses.replace(state, target_cache=cache)
        drafter_state = drafter.prefill(models, params, state.drafter, state.context())
        return dataclasses.replace(state, drafter=drafter_state)


@functools.partial(jax.jit, static_argnames=("engine",), donate_argnames=("state",))
def refill(
    engine: Engine, params: ModelParams, seed: jax.Array, state: DecodeState, prompts: Prompts
) -> DecodeState:
    """Gives new prompts to rows, whatever the rows held before; the others stay as they are.

    The new rows are taken in one after the other, so that a pass reads no other row's prompt.

    Args:
      engine: static.
      params: of the models.
      seed: as in `prefill`.
      state: donated.
      prompts: for as many rows as the state has; a row without a prompt keeps what it has.
    """

    @over_rows(engine.layout, engine.place)
    def run(
        params: ModelParams, seed: jax.Array, *, state: DecodeState, prompts: Prompts
    ) -> DecodeState:
        is_new = prompts.length > 0
        rows = jnp.argsort(~is_new, stable=True).astype(jnp.int32)

        def take_in(index: jax.Array, state: DecodeState) -> DecodeState:
            state, row = engine.place(state, within_rows=True), rows[index]
            chosen = jax.tree.map(
                lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, row, 1, axis=0), prompts
            )
            return jax.tree.map(
                lambda held, new: jax.lax.dynamic_update_slice_in_dim(held, new, row, axis=0),
                state,
                _begin(engine, params, seed, chosen),
            )

        return jax.lax.fori_loop(0, is_new.sum(dtype=jnp.int32), take_in, state)

    return run(params, seed, state=state, prompts=prompts)


@functools.partial(jax.jit, static_argnames=("engine",), donate_argnames=("state",))
def advance(
    engine: Engine,
    params: ModelParams,
    state: DecodeState,
    options: DecodeOptions,
    max_blocks: jax.Array,
    most_done: jax.Array,
) -> DecodeState:
    """Runs blocks until every row is done, or more than `most_done`, or `max_blocks` have run.

    Args:
      engine: static.
      params: of the models.
      state: donated; the caller must not use it again.
      options: traced.
      max_blocks: i32[]; stepping by 1 gives the same tokens as one call.
      most_done: i32[], rows of a data shard that may be done without ending the call; 0 ends it
        as soon as a row can be refilled, `UNLIMITED` lets the call go on.
    """

    @over_rows(engine.layout, engine.place)
    def run(
        params: ModelParams,
        options: DecodeOptions,
        max_blocks: jax.Array,
        most_done: jax.Array,
        *,
        state: DecodeState,
    ) -> DecodeState:
        def unfinished(carry: tuple[jax.Array, DecodeState]) -> jax.Array:
            count, state = carry
            return (count < max_blocks) & goes_on(state.done, most_done)

        def step(carry: tuple[jax.Array, DecodeState]) -> tuple[jax.Array, DecodeState]:
            count, state = carry
            state = engine.place(state, within_rows=True)
            return count + 1, block(engine, params, state, options)

        start = (jnp.asarray(0, jnp.int32), state)
        return jax.lax.while_loop(unfinished, step, start)[1]

    return run(params, options, max_blocks, most_done, state=state)
