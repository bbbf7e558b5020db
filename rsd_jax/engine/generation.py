"""Decoding prompts: `generate` and `stream`."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Literal, Unpack, overload

import jax
import numpy as np

from rsd_jax.core.types import NEVER, LoadedModel
from rsd_jax.engine.batching import Batch
from rsd_jax.engine.decoding import advance
from rsd_jax.engine.job import Job, prepare, start
from rsd_jax.engine.methods import Method
from rsd_jax.engine.recording import MOST_BLOCKS, Observed, advance_and_record, records_of_row
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
from rsd_jax.records.blocks import BlockRecord

UNLIMITED = np.int32(2**31 - 1)
"""A limit on the number of blocks that no run reaches."""

Records = list[list[BlockRecord]]
"""The blocks of each row."""


def read_state(state: DecodeState, observed: Observed | None = None) -> dict[str, Any]:
    """Reads everything that a result needs from the device, in a single transfer."""
    names = ("tokens", "prompt_length", "end", "done", "hit_eos", "failed_block", "stats")
    values = {name: getattr(state, name) for name in names}
    return jax.device_get(values | {"observed": observed})


def to_result(read: dict[str, Any], rows: int, records: Records | None = None) -> GenerateResult:
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
    return GenerateResult(tokens, lengths, reasons, GenerateStats(**counts), records)


def join_results(results: list[GenerateResult]) -> GenerateResult:
    """Joins the results of consecutive batches, row after row."""
    records = [result.block_records for result in results]
    return GenerateResult(
        tokens=[row for result in results for row in result.tokens],
        num_tokens=np.concatenate([result.num_tokens for result in results]),
        finish_reason=[reason for result in results for reason in result.finish_reason],
        stats=join_stats([result.stats for result in results]),
        block_records=None if None in records else [row for each in records for row in each or ()],
    )


def failed_rows(read: dict[str, Any], batch: Batch) -> dict[int, int]:
    """Maps each prompt of the batch whose logits defined no law to the block of these logits."""
    failed = read["failed_block"][: batch.rows]
    return {batch.first + int(row): int(failed[row]) for row in np.flatnonzero(failed != NEVER)}


def _steps(job: Job, batch: Batch, blocks: int, records: Records | None) -> Iterator[dict]:
    """Decodes a batch, at most `blocks` blocks between two host reads; yields what each read.

    Args:
      job: what to decode.
      batch: of the job.
      blocks: with records, each number is a program of its own.
      records: receives the records of the new blocks before each read is yielded; None for a run
        without.
    """
    state, observed, done = start(job, batch), None, False
    engine, params, options = job.engine, job.params, job.options
    while not done:
        if records is None:
            state = advance(engine, params, state, options, np.int32(blocks))
        else:
            state, observed = advance_and_record(engine, blocks, params, state, options)
        read = read_state(state, observed)
        for row, earlier in enumerate(records or ()):
            earlier += records_of_row(engine, options.target_warp.greedy, read, row, earlier)
        yield read
        done = bool(read["done"].all())


def _no_records(batch: Batch, wanted: bool) -> Records | None:
    """Room for the records of a batch, if they are wanted."""
    return [[] for _ in range(batch.rows)] if wanted else None


def decode(job: Job, *, record_blocks: bool = False) -> GenerateResult:
    """Decodes the batches of a job, each without interruption unless blocks are recorded.

    Raises:
      NonFiniteLogitsError: as `generate`.
    """
    results: list[GenerateResult] = []
    failures: dict[int, int] = {}
    for batch in job.batches:
        records = _no_records(batch, record_blocks)
        most = MOST_BLOCKS if record_blocks else int(UNLIMITED)
        for read in _steps(job, batch, most, records):
            last = read
        results.append(to_result(last, batch.rows, records))
        failures |= failed_rows(last, batch)
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
    record_blocks: bool = False,
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
      record_blocks: whether the result holds a `BlockRecord` of every block (`block_records`): the
        drafted tree, its probabilities, and what was accepted. The tokens are the same; another
        program is compiled, which reads the device every 128 blocks.
      **options: see `RequestOptions`.

    Returns:
      new tokens, finish reasons and counts; one host read per batch unless blocks are recorded.

    Raises:
      ConfigError: an argument cannot be used; nothing has run yet.
      NonFiniteLogitsError: the logits of some rows defined no law (NaN, or all -inf); the error
        holds what all rows produced.
    """
    job = prepare(method, target, draft, Request.of(prompts, skips=skips, **options))
    return decode(job, record_blocks=record_blocks)


Pairs = Iterator[tuple[int, list[int]]]
PairsWithRecords = Iterator[tuple[int, list[int], list[BlockRecord]]]


@overload
def stream(
    method: Method,
    target: LoadedModel,
    draft: LoadedModel | None,
    prompts: Sequence[Sequence[int]],
    *,
    skips: np.ndarray | None = None,
    blocks_per_step: int = 4,
    record_blocks: Literal[False] = False,
    **options: Unpack[RequestOptions],
) -> Pairs: ...


@overload
def stream(
    method: Method,
    target: LoadedModel,
    draft: LoadedModel | None,
    prompts: Sequence[Sequence[int]],
    *,
    skips: np.ndarray | None = None,
    blocks_per_step: int = 4,
    record_blocks: Literal[True],
    **options: Unpack[RequestOptions],
) -> PairsWithRecords: ...


@shows_options
def stream(
    method: Method,
    target: LoadedModel,
    draft: LoadedModel | None,
    prompts: Sequence[Sequence[int]],
    *,
    skips: np.ndarray | None = None,
    blocks_per_step: int = 4,
    record_blocks: bool = False,
    **options: Unpack[RequestOptions],
) -> Pairs | PairsWithRecords:
    """Decodes like `generate`, with the same arguments and tokens, and yields tokens on the way.

    Args:
      method, target, draft, prompts, skips: as in `generate`.
      blocks_per_step: blocks between two host reads; with records, each number compiles a program.
      record_blocks: whether a third entry holds the `BlockRecord`s of the blocks that gave the
        tokens.
      **options: see `RequestOptions`.

    Yields:
      (row, tokens of that row that are new since its last pair), or with records (row, tokens,
      records), where the `answer`s of the records together are the tokens.

    Raises:
      as `generate`; arguments are checked when `stream` is called, not at the first token.
    """
    blocks_per_step = positive_integer("blocks_per_step", blocks_per_step)
    job = prepare(method, target, draft, Request.of(prompts, skips=skips, **options))
    if record_blocks:
        return _stream(job, blocks_per_step, record_blocks=True)
    return (each[:2] for each in _stream(job, blocks_per_step, record_blocks=False))


def _stream(job: Job, blocks_per_step: int, *, record_blocks: bool) -> PairsWithRecords:
    results: list[GenerateResult] = []
    failures: dict[int, int] = {}
    for batch in job.batches:
        shown, told = batch.prompt_length.copy(), [0] * batch.rows
        records = _no_records(batch, record_blocks)
        for read in _steps(job, batch, blocks_per_step, records):
            for row in range(batch.rows):
                new = read["tokens"][row, shown[row] : read["end"][row]].tolist()
                blocks = records[row][told[row] :] if records else []
                shown[row], told[row] = read["end"][row], told[row] + len(blocks)
                if new:
                    yield batch.first + row, new, blocks
        results.append(to_result(read, batch.rows, records))
        failures |= failed_rows(read, batch)
    if failures:
        raise NonFiniteLogitsError(failures, join_results(results))
