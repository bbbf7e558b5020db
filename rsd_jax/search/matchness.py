"""Matchness: how often a skip set's likeliest draft token equals the token that was decoded."""

import functools

import jax
import jax.numpy as jnp
from flax import struct

from rsd_jax.core.sampling import argmax
from rsd_jax.core.sharding import MeshLayout, over_rows
from rsd_jax.core.types import LanguageModel, Params
from rsd_jax.engine.state import DecodeState


@struct.dataclass
class Reading:
    """What the host reads between two blocks, in one transfer.

    Attributes:
      score: f32[], matchness; 0 if no row could be used.
      scored: bool[], whether a row could be used.
      all_done: bool[], whether all rows are done.
      drafted: i32[], draft passes of all rows so far.
    """

    score: jax.Array
    scored: jax.Array
    all_done: jax.Array
    drafted: jax.Array


@functools.partial(jax.jit, static_argnames=("model", "context", "layout"))
def read_matchness(
    model: LanguageModel,
    params: Params,
    state: DecodeState,
    skips: jax.Array,
    context: int,
    layout: MeshLayout | None = None,
) -> Reading:
    """Scores a skip set on the response of a row that is being decoded.

    The row is the lowest-numbered unfinished one whose response has more than C + 1 tokens. One
    pass feeds the first C tokens of the response in draft mode, on the keys and values of the
    prompt, which the whole model computed. Matchness is the share of these C positions whose
    likeliest draft token is the next token of the response.

    Args:
      model: the target; static.
      params: of the model.
      state: between two blocks; not donated.
      skips: bool[layers, 2], traced: one program for all candidates.
      context: C, static.
      layout: the mesh that all arrays live on, or None for one device; static.
    """

    # Each data shard scores its own first usable row. If only the first row of all shards were
    # scored, XLA would gather the caches of all rows on every device to fetch that row.
    @over_rows(layout)
    def first_row(
        params: Params, skips: jax.Array, *, state: DecodeState
    ) -> tuple[jax.Array, jax.Array]:
        usable = ~state.done & (state.length - state.prompt_length > context + 1)
        row = jnp.argmax(usable)

        def of_row(leaf: jax.Array) -> jax.Array:
            return jax.lax.dynamic_index_in_dim(leaf, row, axis=0, keepdims=True)

        def score() -> jax.Array:
            cache = jax.tree.map(of_row, state.target_cache)
            start = of_row(state.prompt_length)
            cache = cache.replace(length=start)
            order = jnp.arange(context + 1, dtype=jnp.int32)[None]
            response = jnp.take_along_axis(of_row(state.tokens), start[:, None] + order, axis=1)
            logits, _ = model.forward(
                params,
                response[:, :-1],
                start[:, None] + order[:, :-1],
                cache,
                model.init_scratch(1, context),
                slot=0,
                mask=jnp.tril(jnp.ones((1, context, context), bool)),
                skips=skips,
            )
            return (argmax(logits) == response[:, 1:]).mean(axis=1, dtype=jnp.float32)

        none = functools.partial(jnp.zeros, (1,), jnp.float32)
        return jax.lax.cond(usable.any(), score, none), usable.any(keepdims=True)

    # One per shard, in the order of the rows.
    scores, scored = first_row(params, skips, state=state)
    return Reading(
        score=scores[jnp.argmax(scored)],
        scored=scored.any(),
        all_done=state.done.all(),
        drafted=state.stats.drafted.sum(dtype=jnp.int32),
    )
