"""The decode loop: prefill, then blocks, all on the device; two compiled programs."""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from rsd_jax.core.prefill import PREFILL_CHUNK, prefill_cache
from rsd_jax.core.sampling import row_keys
from rsd_jax.core.sharding import over_rows
from rsd_jax.drafters.base import Drafter, ModelParams
from rsd_jax.engine.phases import DecodeOptions, Engine, block
from rsd_jax.engine.state import DecodeState, never, zero_stats
from rsd_jax.engine.target_pass import scratch_slots


def required_capacity(drafter: Drafter, prompt_length: int, max_new_tokens: int) -> int:
    """Positions that a row needs so that no write, counted or not, reaches past the end.

    The last block may overrun max_new_tokens by D, a write is D + 1 wide, and the last prefill
    chunk is written whole.
    """
    overrun = 2 * (drafter.shape.depth + 1)
    return prompt_length + max(max_new_tokens + overrun, PREFILL_CHUNK)


@functools.partial(jax.jit, static_argnames=("engine",))
def prefill(
    engine: Engine,
    params: ModelParams,
    tokens: jax.Array,
    prompt_length: jax.Array,
    seed: jax.Array,
    request_ids: jax.Array,
) -> DecodeState:
    """Takes in a batch of prompts.

    Args:
      engine: static.
      params: of the models.
      tokens: i32[B, T], prompts from the left; T is also the capacity of the caches.
      prompt_length: i32[B]; a row of length 0 is padding and is done from the start.
      seed: i32[] or u32[].
      request_ids: i32[B]; a row's draws depend on seed and request id alone.

    Returns:
      the state before the first block.
    """

    @over_rows(engine.layout, engine.place)
    def run(
        params: ModelParams,
        seed: jax.Array,
        *,
        tokens: jax.Array,
        prompt_length: jax.Array,
        request_ids: jax.Array,
    ) -> DecodeState:
        batch, capacity = tokens.shape
        models, drafter = engine.models, engine.drafter
        length = jnp.maximum(prompt_length, 1)
        state = DecodeState(
            tokens=tokens,
            prompt_length=length,
            length=length,
            end=length,
            done=prompt_length == 0,
            hit_eos=jnp.zeros((batch,), bool),
            failed_block=never(batch),
            target_cache=models.target.init_cache(batch, capacity),
            target_scratch=models.target.init_scratch(
                batch, scratch_slots(drafter.shape, drafter.pass_widths)
            ),
            drafter=drafter.init(models, batch, capacity),
            row_keys=row_keys(seed, request_ids),
            stats=zero_stats(drafter.shape, batch),
        )
        with jax.named_scope("prefill"):
            cache = prefill_cache(
                models.target, params.target, state.target_cache, tokens, length - 1
            )
            state = dataclasses.replace(state, target_cache=cache)
            context = state.context()
            drafter_state = drafter.prefill(models, params, state.drafter, context)
            return dataclasses.replace(state, drafter=drafter_state)

    return run(params, seed, tokens=tokens, prompt_length=prompt_length, request_ids=request_ids)


@functools.partial(jax.jit, static_argnames=("engine",), donate_argnames=("state",))
def advance(
    engine: Engine,
    params: ModelParams,
    state: DecodeState,
    options: DecodeOptions,
    max_blocks: jax.Array,
) -> DecodeState:
    """Runs blocks until every row is done or `max_blocks` have run.

    Args:
      engine: static.
      params: of the models.
      state: donated; the caller must not use it again.
      options: traced.
      max_blocks: i32[]; stepping by 1 gives the same tokens as one call.
    """

    @over_rows(engine.layout, engine.place)
    def run(
        params: ModelParams, options: DecodeOptions, max_blocks: jax.Array, *, state: DecodeState
    ) -> DecodeState:
        def unfinished(carry: tuple[jax.Array, DecodeState]) -> jax.Array:
            count, state = carry
            return (count < max_blocks) & ~state.done.all()

        def step(carry: tuple[jax.Array, DecodeState]) -> tuple[jax.Array, DecodeState]:
            count, state = carry
            state = engine.place(state, within_rows=True)
            return count + 1, block(engine, params, state, options)

        start = (jnp.asarray(0, jnp.int32), state)
        return jax.lax.while_loop(unfinished, step, start)[1]

    return run(params, options, max_blocks, state=state)
