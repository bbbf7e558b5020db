"""Autoregressive responses together with the target's likeliest tokens, from the same passes.

The passes that sample a response have the logits that `top_logprobs` would compute again, which
costs as much as the response. Methods with a tree have no such record: their passes also score
rejected nodes.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from rsd_jax.core.sharding import over_rows
from rsd_jax.distillation.responses.shards import TOP_FIELDS, token_dtype
from rsd_jax.distillation.truncated import TruncatedLogits, truncate
from rsd_jax.drafters.base import ModelParams
from rsd_jax.engine import phases
from rsd_jax.engine.generation import failed_rows, join_results, read_state, to_result
from rsd_jax.engine.job import Job, start
from rsd_jax.engine.phases import DecodeOptions, Engine
from rsd_jax.engine.results import GenerateResult
from rsd_jax.engine.state import DecodeState
from rsd_jax.errors import NonFiniteLogitsError


def decode_recorded(
    job: Job, k: int, max_new_tokens: int
) -> tuple[GenerateResult, dict[str, np.ndarray]]:
    """Decodes the batches of a job as `decode` does, with the same tokens.

    Args:
      job: from `prepare`, of a method that drafts nothing.
      k: how many tokens are kept, at most the vocabulary's size.
      max_new_tokens: of the job.

    Returns:
      what `generate` returns, and the fields `TOP_FIELDS` of a `shards.Shard`, response after
      response. On a device the record takes 8 k + 4 bytes per row and new token.

    Raises:
      NonFiniteLogitsError: as `generate`.
    """
    results: list[GenerateResult] = []
    kept: list[TruncatedLogits] = []
    failures: dict[int, int] = {}
    for batch in job.batches:
        state, top = _run(job.engine, k, max_new_tokens, job.params, start(job, batch), job.options)
        read, top = read_state(state), jax.device_get(top)
        results.append(to_result(read, batch.rows))
        for row, tokens in enumerate(results[-1].tokens):
            own = row, slice(len(tokens))
            kept.append(TruncatedLogits(top.values[own], top.ids[own], top.log_rest[own]))
        failures |= failed_rows(read, batch)
    result = join_results(results)
    if failures:
        raise NonFiniteLogitsError(failures, result)
    dtype = token_dtype(job.engine.models.target.vocab_size)
    ids, values, rest = (
        np.concatenate([getattr(each, name) for each in kept])
        for name in ("ids", "values", "log_rest")
    )
    return result, dict(zip(TOP_FIELDS, (ids.astype(dtype), values, rest), strict=True))


@functools.partial(
    jax.jit, static_argnames=("engine", "k", "max_new_tokens"), donate_argnames=("state",)
)
def _run(
    engine: Engine,
    k: int,
    max_new_tokens: int,
    params: ModelParams,
    state: DecodeState,
    options: DecodeOptions,
) -> tuple[DecodeState, TruncatedLogits]:
    """Runs blocks of one token until every row is done.

    Returns:
      the last state, and the truncated logits of each new token, leading shape [B, T] with
      T = `max_new_tokens`; garbage behind a row's end.
    """

    @over_rows(engine.layout, engine.place)
    def run(
        params: ModelParams, options: DecodeOptions, *, state: DecodeState
    ) -> tuple[DecodeState, TruncatedLogits]:
        Carry = tuple[DecodeState, TruncatedLogits, jax.Array]

        def step(carry: Carry) -> Carry:
            state, top, index = carry
            state = engine.place(state, within_rows=True)
            tree, state = phases.draft(engine, params, state, options)
            logits, state = phases.score(engine, params, state, tree)
            # All rows that are not done have produced as many tokens as there were blocks.
            now = truncate(logits[:, :1].astype(jnp.float32), k)
            top = jax.tree.map(
                lambda buffer, new: jax.lax.dynamic_update_slice_in_dim(buffer, new, index, axis=1),
                top,
                now,
            )
            result = phases.verify(engine, state, tree, logits, options)
            return phases.commit(engine, state, tree, result, options), top, index + 1

        rows = (len(state.done), max_new_tokens)
        top = TruncatedLogits(
            values=jnp.zeros((*rows, k), jnp.float32),
            ids=jnp.zeros((*rows, k), jnp.int32),
            log_rest=jnp.zeros(rows, jnp.float32),
        )
        first = (state, top, jnp.asarray(0, jnp.int32))
        return jax.lax.while_loop(lambda carry: ~carry[0].done.all(), step, first)[:2]

    return run(params, options, state=state)
