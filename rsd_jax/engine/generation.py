"""Decoding prompts: `generate` and `stream`."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Unpack

import jax
import numpy as np

from rsd_jax.core.types import NEVER, LoadedModel
from rsd_jax.engine.batching import Batch
from rsd_jax.engine.decoding import advance
from rsd_jax.engine.job import Job, prepare, start
from rsd_jax.engine.methods import Method
from rsd_jax.engine.request import Request, RequestOptions, shows_options
from rsd_jax.engine.results import (
    FINISH_EOS,
    FINISH_ERROR,
    FINISH_LENGTH,
    GenerateResult,
    GenerateStats,
    join_stats,
)
from rsd_jax.engine.state import DecodeState
from rsd_jax.errors import NonFiniteLogitsError, positive_integer

UNLIMITED = np.int32(2**31 - 1)
"""A limit on the number of blocks that no run reaches."""


def read_state(state: DecodeState) -> dict[str, Any]:
    """Reads everything that a result needs from the device, in a single transfer."""
    names = ("tokens", "prompt_length", "end", "done", "hit_eos", "failed_block", "stats")
    return jax.device_get({name: getattr(state, name) for name in names})


def to_result(read: dict[str, Any], rows: int) -> GenerateResult:
    """The result of the first `rows` rows, from `read_state`."""
    tokens = [
        read["tokens"][row, read["prompt_length"][row] : read["end"][row]].tolist()
        for row in range(rows)
    ]
    reasons = [
        FINISH_ERROR
        if read["failed_block"][row] != NEVER
        else FINISH_EOS
        if read["hit_eos"][row]
        else FINISH_LENGTH
        for row in range(rows)
    ]
    counts = {
        field.name: getattr(read["stats"], field.name)[:rows]
        for field in dataclasses.fields(GenerateStats)
    }
    lengths = np.asarray([len(row) for row in tokens], np.int32)
    return GenerateResult(tokens, lengths, reasons, GenerateStats(**counts))


def join_results(results: list[GenerateResult]) -> GenerateResult:
    """Joins the results of consecutive batches, row after row."""
    return GenerateResult(
        tokens=[row for result in results for row in result.tokens],
        num_tokens=np.concatenate([result.num_tokens for result in results]),
        finish_reason=[reason for result in results for reason in result.finish_reason],
        stats=join_stats([result.stats for result in results]),
    )


def failed_rows(read: dict[str, Any], batch: Batch) -> dict[int, int]:
    """Maps each prompt of the batch whose logits defined no law to the block of these logits."""
    failed = read["failed_block"][: batch.rows]
    return {batch.first + int(row): int(failed[row]) for row in np.flatnonzero(failed != NEVER)}


def decode(job: Job) -> GenerateResult:
    """Decodes the batches of a job, each without interruption.

    Raises:
      NonFiniteLogitsError: as `generate`.
    """
    results: list[GenerateResult] = []
    failures: dict[int, int] = {}
    for batch in job.batches:
        state = advance(job.engine, job.params, start(job, batch), job.options, UNLIMITED)
        read = read_state(state)
        results.append(to_result(read, batch.rows))
        failures |= failed_rows(read, batch)
    result = join_results(results)
    if failures:
        raise NonFiniteLogitsError(failures, result)
    return result


@shows_options
def generate(
    method: Method,
    target: LoadedModel,
    draft: LoadedModel | None,
    prompts: Sequence[Sequence[int]],
    *,
    skips: np.ndarray | None = None,
    **options: Unpack[RequestOptions],
) -> GenerateResult:
    """Decodes prompts; the output has exactly the target's law, whatever the draft.

    Args:
      method: from `build_method`.
      target: from `load_model`.
      draft: from `load_model`, with the target's vocabulary; None if the method needs no draft
        model.
      prompts: lists of token ids; lengths may differ.
      skips: bool[layers, 2], for methods that draft with the target: which sub-layers (attention,
        MLP) are skipped in drafting. None for every second layer (`rsd_jax.core.skips.start_set`).
      **options: see `RequestOptions`.

    Returns:
      new tokens, finish reasons and counts; one host read per batch.

    Raises:
      ConfigError: an argument cannot be used; nothing has run yet.
      NonFiniteLogitsError: the logits of some rows defined no law (NaN, or all -inf); the error
        holds what all rows produced.
    """
    return decode(prepare(method, target, draft, Request.of(prompts, skips=skips, **options)))


@shows_options
def stream(
    method: Method,
    target: LoadedModel,
    draft: LoadedModel | None,
    prompts: Sequence[Sequence[int]],
    *,
    skips: np.ndarray | None = None,
    blocks_per_step: int = 4,
    **options: Unpack[RequestOptions],
) -> Iterator[tuple[int, list[int]]]:
    """Decodes like `generate`, with the same arguments and tokens, and yields tokens on the way.

    Args:
      method, target, draft, prompts, skips: as in `generate`.
      blocks_per_step: blocks between two host reads.
      **options: see `RequestOptions`.

    Yields:
      (row, tokens of that row that are new since its last pair).

    Raises:
      as `generate`; arguments are checked when `stream` is called, not at the first token.
    """
    blocks_per_step = positive_integer("blocks_per_step", blocks_per_step)
    job = prepare(method, target, draft, Request.of(prompts, skips=skips, **options))
    return _stream(job, blocks_per_step)


def _stream(job: Job, blocks_per_step: int) -> Iterator[tuple[int, list[int]]]:
    results: list[GenerateResult] = []
    failures: dict[int, int] = {}
    for batch in job.batches:
        state = start(job, batch)
        shown = batch.prompt_length.copy()
        while True:
            state = advance(job.engine, job.params, state, job.options, np.int32(blocks_per_step))
            read = read_state(state)
            for row in range(batch.rows):
                new = read["tokens"][row, shown[row] : read["end"][row]].tolist()
                shown[row] = read["end"][row]
                if new:
                    yield batch.first + row, new
            if read["done"].all():
                break
        results.append(to_result(read, batch.rows))
        failures |= failed_rows(read, batch)
    if failures:
        raise NonFiniteLogitsError(failures, join_results(results))
