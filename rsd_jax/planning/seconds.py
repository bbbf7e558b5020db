"""Seconds of prompts and of blocks, from whole answers to several prompts."""

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from rsd_jax.core.types import LoadedModel
from rsd_jax.engine.batching import Batch
from rsd_jax.engine.decoding import UNLIMITED, advance
from rsd_jax.engine.job import Job, prepare, start
from rsd_jax.engine.methods import Method
from rsd_jax.engine.request import Request
from rsd_jax.errors import positive_integer
from rsd_jax.evaluation.stopwatch import timed, turn_order


@dataclasses.dataclass(frozen=True)
class Seconds:
    """What one method takes for one batch.

    Attributes:
      prefill: the pass over the prompts of a batch, the mean over batches.
      block: a block, the mean over all blocks of the batches.
    """

    prefill: float
    block: float


class _Answer(NamedTuple):
    """The answer to one batch: seconds of its prompts and of all its blocks, number of blocks."""

    prompts: float
    blocks: float
    num_blocks: int


def batches_to_time(lengths: Sequence[int], rows: int, batches: int) -> list[list[int]]:
    """Indices of the prompts of each timed batch.

    A batch holds prompts of neighbouring lengths, and the batches are spread evenly over the
    prompts, the shortest first. With fewer prompts than `rows` x `batches` there are fewer batches.

    Args:
      lengths: of the prompts.
      rows: of a batch, at most as many as there are prompts.
      batches: how many.

    Raises:
      ConfigError: a number is out of range.
    """
    rows = positive_integer("timed_rows", rows, most=len(lengths))
    batches = positive_integer("timed_batches", batches)
    order = np.argsort(lengths, kind="stable")
    count = min(batches, len(order) // rows)
    middles = (np.arange(count) + 0.5) * len(order) / count
    firsts = np.clip(np.floor(middles - (rows - 1) / 2), 0, len(order) - rows).astype(int)
    return [order[first : first + rows].tolist() for first in firsts]


def measure_seconds(
    methods: Sequence[Method],
    target: LoadedModel,
    draft: LoadedModel | None,
    request: Request,
    chosen: Sequence[Sequence[int]],
    *,
    repeats: int,
    report: Callable[[str], None],
) -> list[Seconds]:
    """Times methods in turns, on one batch after the other.

    Answers are decoded whole, to where they end: what a block takes may depend on how much text
    there is already, as for lookup, and on how sure the draft is of the text, as for methods that
    stop. Of several repeats the median of the seconds counts.

    Args:
      methods: to be timed.
      target, draft: the models.
      request: its prompts and sampling.
      chosen: from `batches_to_time`.
      repeats: how often each method decodes each batch.
      report: called with a line of text after each method is compiled and each batch is timed.

    Returns:
      one for each method.

    Raises:
      ConfigError: as `generate`.
    """
    indices = [index for batch in chosen for index in batch]
    whole = dataclasses.replace(
        request,
        prompts=[request.prompts[index] for index in indices],
        limits=[request.limit_of(index) for index in indices],
        request_ids=None,
        batch_size=len(chosen[0]),
    )
    jobs: list[Job] = []
    for method in methods:
        jobs.append(prepare(method, target, draft, whole))
        _answer(jobs[-1], jobs[-1].batches[0])
        report(f"{method.name} {method.tree}: compiled")
    answers: list[list[_Answer]] = [[] for _ in methods]
    for batch in range(len(chosen)):
        taken: list[list[_Answer]] = [[] for _ in methods]
        for turn in range(repeats):
            for which in turn_order(len(jobs), turn):
                taken[which].append(_answer(jobs[which], jobs[which].batches[batch]))
        for known, repeated in zip(answers, taken, strict=True):
            known.append(_Answer(*map(statistics.median, zip(*repeated, strict=True))))
        report(f"batch {batch + 1} of {len(chosen)}: timed")
    return [_seconds(each) for each in answers]


def _answer(job: Job, batch: Batch) -> _Answer:
    """Decodes a batch to its end."""
    state, prompts = timed(start, job, batch)
    arguments = (job.engine, job.params, state, job.options, UNLIMITED, UNLIMITED)
    end, blocks = timed(advance, *arguments)
    return _Answer(prompts, blocks, int(np.max(end.stats.blocks)))


def _seconds(answers: Sequence[_Answer]) -> Seconds:
    prompts, blocks, num_blocks = zip(*answers, strict=True)
    return Seconds(prefill=statistics.fmean(prompts), block=sum(blocks) / sum(num_blocks))
