"""Decoding prompts: `generate` and `stream`."""

import collections
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Literal, Unpack, overload

import numpy as np

from rsd_jax.core.types import NEVER, LoadedModel
from rsd_jax.engine.batching import Batch
from rsd_jax.engine.decoding import UNLIMITED, advance
from rsd_jax.engine.job import Job, prepare
from rsd_jax.engine.methods import Method
from rsd_jax.engine.recording import MOST_BLOCKS, advance_and_record, records_of_row
from rsd_jax.engine.request import Request, RequestOptions, shows_options
from rsd_jax.engine.results import (
    FINISH_EOS,
    FINISH_ERROR,
    FINISH_LENGTH,
    GenerateResult,
    GenerateStats,
    join_stats,
)
from rsd_jax.engine.rows import RunBlocks, Step, steps
from rsd_jax.engine.state import DecodeState
from rsd_jax.errors import NonFiniteLogitsError, positive_integer
from rsd_jax.records.blocks import BlockRecord

Records = dict[int, list[BlockRecord]]
"""The blocks of each prompt, by its index."""


def to_result(
    read: dict[str, Any], rows: Sequence[int], records: list[list[BlockRecord]] | None = None
) -> GenerateResult:
    """The result of these rows, from `read_state`, with the records of each, if any."""
    tokens = [
        read["tokens"][row, read["prompt_length"][row] : read["end"][row]].tolist() for row in rows
    ]
    reasons = [
        FINISH_ERROR
        if read["failed_block"][row] != NEVER
        else FINISH_EOS
        if read["hit_eos"][row]
        else FINISH_LENGTH
        for row in rows
    ]
    counts = {
        field.name: getattr(read["stats"], field.name)[list(rows)]
        for field in dataclasses.fields(GenerateStats)
    }
    lengths = np.asarray([len(row) for row in tokens], np.int32)
    return GenerateResult(tokens, lengths, reasons, GenerateStats(**counts), records)


def join_results(results: list[GenerateResult]) -> GenerateResult:
    """Joins results, row after row."""
    records = [result.block_records for result in results]
    return GenerateResult(
        tokens=[row for result in results for row in result.tokens],
        num_tokens=np.concatenate([result.num_tokens for result in results]),
        finish_reason=[reason for result in results for reason in result.finish_reason],
        stats=join_stats([result.stats for result in results]),
        block_records=None if None in records else [row for each in records for row in each or ()],
    )


def _in_order(result: GenerateResult, order: np.ndarray) -> GenerateResult:
    """The rows of a result in another order."""
    records = result.block_records
    return GenerateResult(
        tokens=[result.tokens[row] for row in order],
        num_tokens=result.num_tokens[order],
        finish_reason=[result.finish_reason[row] for row in order],
        stats=GenerateStats(**{name: each[order] for name, each in vars(result.stats).items()}),
        block_records=None if records is None else [records[row] for row in order],
    )


def failed_rows(read: dict[str, Any], batch: Batch) -> dict[int, int]:
    """Maps each prompt of the batch whose logits defined no law to the block of these logits."""
    failed = read["failed_block"][: batch.rows]
    return {batch.first + int(row): int(failed[row]) for row in np.flatnonzero(failed != NEVER)}


class Collected:
    """What the finished prompts of a job produced."""

    def __init__(self) -> None:
        self._parts: list[GenerateResult] = []
        self._indices: list[int] = []
        self._failures: dict[int, int] = {}

    def add(self, step: Step, records: Records | None = None) -> None:
        """Takes the prompts that are done in a step, with the records of their blocks, if any."""
        finished = list(step.finished())
        rows, indices = [row for row, _ in finished], [index for _, index in finished]
        own = None if records is None else [records[index] for index in indices]
        self._parts.append(to_result(step.read, rows, own))
        self._indices += indices
        failed = step.read["failed_block"][rows]
        self._failures |= {indices[at]: int(failed[at]) for at in np.flatnonzero(failed != NEVER)}

    def result(self) -> GenerateResult:
        """All prompts in their order.

        Raises:
          NonFiniteLogitsError: as `generate`.
        """
        result = _in_order(join_results(self._parts), np.argsort(self._indices))
        if self._failures:
            raise NonFiniteLogitsError(dict(sorted(self._failures.items())), result)
        return result


def _blocks(job: Job, recorded: int | None) -> RunBlocks:
    """Runs blocks of a job; with a record of each of at most `recorded` blocks, unless None."""
    engine, params, options = job.engine, job.params, job.options

    def plain(state: DecodeState, most: np.int32, most_done: np.int32):
        return advance(engine, params, state, options, most, most_done), None

    def recording(state: DecodeState, most: np.int32, most_done: np.int32):
        return advance_and_record(engine, recorded, params, state, options, most, most_done)

    return plain if recorded is None else recording


def _steps(job: Job, blocks: int, records: Records | None) -> Iterator[Step]:
    """The steps of a job; the records of new blocks are in `records` before a step is yielded.

    Args:
      job: what to decode.
      blocks: most blocks between two reads; with records, each number is a program of its own.
      records: by prompt; None for a run without.
    """
    greedy = job.options.target_warp.greedy
    for step in steps(job, _blocks(job, None if records is None else blocks), blocks):
        if records is not None:
            for row, index in step.held():
                earlier = records.setdefault(index, [])
                earlier += records_of_row(job.engine, greedy, step.read, row, earlier)
        yield step


def decode(job: Job, *, record_blocks: bool = False) -> GenerateResult:
    """Decodes the prompts of a job; the host reads the device only when rows are done.

    Raises:
      NonFiniteLogitsError: as `generate`.
    """
    collected = Collected()
    records: Records | None = {} if record_blocks else None
    for step in _steps(job, MOST_BLOCKS if record_blocks else int(UNLIMITED), records):
        collected.add(step, records)
    return collected.result()


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
      new tokens, finish reasons and counts. The host reads the device once at the end; with more
      prompts than `batch_size`, also each time a row is done.

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
    collected = Collected()
    records: Records | None = {} if record_blocks else None
    shown: dict[int, int] = collections.defaultdict(int)
    told: dict[int, int] = collections.defaultdict(int)
    for step in _steps(job, blocks_per_step, records):
        for row, index in step.held():
            start = int(step.read["prompt_length"][row]) + shown[index]
            new = step.read["tokens"][row, start : step.read["end"][row]].tolist()
            blocks = records[index][told[index] :] if records is not None else []
            shown[index], told[index] = shown[index] + len(new), told[index] + len(blocks)
            if new:
                yield index, new, blocks
        collected.add(step, records)
    collected.result()
