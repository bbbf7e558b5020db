"""Autoregressive responses together with the target's likeliest tokens, from the same passes.

The passes that sample a response have the logits that `top_logprobs` would compute again, which
costs as much as the response. Methods with a tree have no such record: their passes also score
rejected nodes.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from rsd_jax.core.rows import write_rows
from rsd_jax.core.sharding import over_rows
from rsd_jax.distillation.responses.shards import TOP_FIELDS, token_dtype
from rsd_jax.distillation.truncated import TruncatedLogits, truncate
from rsd_jax.drafters.base import ModelParams
from rsd_jax.engine import phases
from rsd_jax.engine.decoding import goes_on
from rsd_jax.engine.generation import Collected
from rsd_jax.engine.job import Job
from rsd_jax.engine.phases import DecodeOptions, Engine
from rsd_jax.engine.results import GenerateResult
from rsd_jax.engine.rows import steps
from rsd_jax.engine.state import DecodeState


def decode_recorded(
    job: Job, k: int, max_new_tokens: int
) -> tuple[GenerateResult, dict[str, np.ndarray]]:
    """Decodes the prompts of a job as `decode` does, with the same tokens.

    Args:
      job: from `prepare`, of a method that drafts nothing.
      k: how many tokens are kept, at most the vocabulary's size.
      max_new_tokens: of the job, the largest of its prompts.

    Returns:
      what `generate` returns, and the fields `TOP_FIELDS` of a `shards.Shard`, response after
      response. On a device the record takes 8 k + 4 bytes per row and new token.

    Raises:
      NonFiniteLogitsError: as `generate`.
    """
    engine, collected = job.engine, Collected()
    kept: dict[int, TruncatedLogits] = {}
    # A row that is done goes on writing behind its last token.
    rows = (len(job.batches[0].prompts.length), max_new_tokens + 1)
    top = TruncatedLogits(
        values=jnp.zeros((*rows, k), jnp.float32),
        ids=jnp.zeros((*rows, k), jnp.int32),
        log_rest=jnp.zeros(rows, jnp.float32),
    )

    def run(state: DecodeState, most: np.int32, most_done: np.int32):
        nonlocal top
        state, top = _advance(engine, k, job.params, state, top, job.options, most, most_done)
        return state, top

    for step in steps(job, run):
        collected.add(step)
        read, seen = step.read, step.read["observed"]
        for row, index in step.finished():
            own = row, slice(read["end"][row] - read["prompt_length"][row])
            kept[index] = TruncatedLogits(seen.values[own], seen.ids[own], seen.log_rest[own])
    result = collected.result()
    dtype = token_dtype(job.engine.models.target.vocab_size)
    ids, values, rest = (
        np.concatenate([getattr(kept[index], name) for index in sorted(kept)])
        for name in ("ids", "values", "log_rest")
    )
    return result, dict(zip(TOP_FIELDS, (ids.astype(dtype), values, rest), strict=True))


@functools.partial(jax.jit, static_argnames=("engine", "k"), donate_argnames=("state", "top"))
def _advance(
    engine: Engine,
    k: int,
    params: ModelParams,
    state: DecodeState,
    top: TruncatedLogits,
    options: DecodeOptions,
    max_blocks: jax.Array,
    most_done: jax.Array,
) -> tuple[DecodeState, TruncatedLogits]:
    """Runs blocks of one token, as `decoding.advance` does.

    Args:
      engine, k: static.
      params, options, max_blocks, most_done: as in `decoding.advance`.
      state: donated.
      top: donated; leading shape [B, T], T above every row's max_new_tokens.

    Returns:
      the state, and `top` with the truncated logits of each new token at the token's index among
      the new tokens of its row.
    """

    @over_rows(engine.layout, engine.place)
    def run(
        params: ModelParams,
        options: DecodeOptions,
        max_blocks: jax.Array,
        most_done: jax.Array,
        *,
        state: DecodeState,
        top: TruncatedLogits,
    ) -> tuple[DecodeState, TruncatedLogits]:
        Carry = tuple[DecodeState, TruncatedLogits, jax.Array]

        def step(carry: Carry) -> Carry:
            state, top, count = carry
            state = engine.place(state, within_rows=True)
            tree, state = phases.draft(engine, params, state, options)
            logits, state = phases.score(engine, params, state, tree)
            at = state.length - state.prompt_length  # a block is one token
            # Without the barrier XLA would see single rows of a top-k, know no top-k in them, and
            # sort the vocabulary.
            seen = jax.lax.optimization_barrier(truncate(logits[:, :1].astype(jnp.float32), k))
            top = jax.tree.map(lambda buffer, new: write_rows(buffer, new, at, axis=1), top, seen)
            result = phases.verify(engine, state, tree, logits, options)
            return phases.commit(engine, state, tree, result, options), top, count + 1

        def unfinished(carry: Carry) -> jax.Array:
            return (carry[2] < max_blocks) & goes_on(carry[0].done, most_done)

        first = (state, top, jnp.asarray(0, jnp.int32))
        return jax.lax.while_loop(unfinished, step, first)[:2]

    return run(params, options, max_blocks, most_done, state=state, top=top)
