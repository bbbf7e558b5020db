"""Passes of a model over its committed cache, timed in a loop on the device."""

import dataclasses
import functools
import statistics
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from rsd_jax.core.types import KVCache, LanguageModel, LoadedModel, Params, sizes_of
from rsd_jax.evaluation.stopwatch import timed, turn_order


def committed_cache(model: LanguageModel, *, batch: int, context: int) -> KVCache:
    """A cache of `batch` rows with `context` committed positions, whose values are 0."""
    cache = model.init_cache(batch, max(128, 1 << (context - 1).bit_length()))
    return dataclasses.replace(cache, length=jnp.full((batch,), context, jnp.int32))


def passes_per_call(model: LanguageModel) -> int:
    """As many passes as read 2^30 parameters, but from 4 to 32.

    Raises:
      ConfigError: a model without sizes.
    """
    return min(32, max(4, (1 << 30) // sizes_of(model).num_parameters_read))


@functools.partial(jax.jit, static_argnames=("model", "nodes", "steps"))
def _passes(
    model: LanguageModel,
    params: Params,
    cache: KVCache,
    skips: jax.Array | None,
    nodes: int,
    steps: int,
) -> jax.Array:
    """`steps` passes, each over the likeliest tokens of the previous pass."""
    batch = cache.length.shape[0]
    scratch = model.init_scratch(batch, nodes)
    places = jnp.arange(nodes, dtype=jnp.int32)[None]

    def one(_: jax.Array, tokens: jax.Array) -> jax.Array:
        logits, _scratch = model.forward(
            params,
            tokens,
            cache.length[:, None] + places,
            cache,
            scratch,
            slot=0,
            mask=jnp.tril(jnp.ones((1, nodes, nodes), bool)),
            skips=skips,
        )
        return logits.argmax(axis=-1).astype(jnp.int32)

    return jax.lax.fori_loop(0, steps, one, jnp.zeros((batch, nodes), jnp.int32))


def pass_seconds(
    loaded: LoadedModel,
    cache: KVCache,
    *,
    steps: int,
    nodes: int = 1,
    skips: jax.Array | None = None,
) -> float:
    """Seconds of one pass over a chain of nodes; the first call with other shapes compiles.

    Args:
      loaded: the model.
      cache: from `committed_cache`.
      steps: passes of the timed call.
      nodes: tokens of each row, each of which sees those before it.
      skips: bool[layers, 2], sub-layers that are skipped.
    """
    return timed(_passes, loaded.model, loaded.params, cache, skips, nodes, steps)[1] / steps


def pass_medians(
    contestants: Sequence[tuple[LoadedModel, int]], *, batch: int, context: int, repeats: int
) -> list[float]:
    """Median seconds of one pass of each contestant, timed in turns.

    Args:
      contestants: models, each with the tokens of each row.
      batch: rows.
      context: committed positions of each row.
      repeats: turns; one more turn compiles.
    """
    caches = {
        id(loaded): committed_cache(loaded.model, batch=batch, context=context)
        for loaded, _ in contestants
    }
    seconds: list[list[float]] = [[] for _ in contestants]
    for turn in range(repeats + 1):
        for index in turn_order(len(contestants), turn):
            loaded, nodes = contestants[index]
            steps = passes_per_call(loaded.model)
            taken = pass_seconds(loaded, caches[id(loaded)], steps=steps, nodes=nodes)
            if turn:
                seconds[index].append(taken)
    return [statistics.median(each) for each in seconds]
