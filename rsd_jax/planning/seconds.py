"""Seconds of prompts and of blocks, in the middle of answers to several prompts."""

import dataclasses
import statistics
from collections.abc import Callable, Sequence

import numpy as np

from rsd_jax.core.types import LoadedModel
from rsd_jax.engine.batching import capacity_of, fewest_positions
from rsd_jax.engine.job import Job, prepare, start
from rsd_jax.engine.methods import Method
from rsd_jax.engine.request import Request
from rsd_jax.evaluation.stopwatch import timed
from rsd_jax.evaluation.timing import TimedMethod, endless_request, take_turns

_BLOCKS = 8  # of a timed call


@dataclasses.dataclass(frozen=True)
class Seconds:
    """What one method takes: means over the timed batches, each a median over its repeats.

    Attributes:
      prompt: of the pass over the prompts of a batch.
      block: of a block.
    """

    prompt: float
    block: float


def batches_to_time(lengths: Sequence[int], rows: int, batches: int) -> list[list[int]]:
    """Indices of the prompts of each timed batch.

    A batch holds prompts of neighbouring lengths, and the batches are spread evenly over the
    prompts, the shortest first. With fewer prompts than `rows` x `batches` there are fewer batches.
    """
    order = np.argsort(lengths, kind="stable")
    count = max(1, min(batches, len(order) // rows))
    middles = (np.arange(count) + 0.5) * len(order) / count
    firsts = np.clip(np.floor(middles - (rows - 1) / 2), 0, len(order) - rows).astype(int)
    return [order[first : first + rows].tolist() for first in firsts]


def measure_seconds(
    methods: Sequence[Method],
    target: LoadedModel,
    draft: LoadedModel | None,
    request: Request,
    answers: Sequence[Sequence[int]],
    chosen: Sequence[Sequence[int]],
    *,
    repeats: int,
    report: Callable[[str], None],
) -> list[Seconds]:
    """Times methods in turns, on one batch after the other.

    Blocks begin after half of the answer: how many of them are wide may depend on how much text
    there is already, as for lookup.

    Args:
      methods: to be timed.
      target, draft: the pair.
      request: its prompts and sampling.
      answers: to all prompts.
      chosen: from `batches_to_time`.
      repeats: how often prompts and blocks of each method and batch are timed.
      report: called with a line of text after each method is compiled and each batch is timed.
    """
    jobs = []
    for method in methods:
        jobs.append(_jobs(method, target, draft, request, answers, chosen))
        _contestant(*jobs[-1], 0)
        report(f"{method.name} {method.tree}: compiled")
    taken: list[list[Seconds]] = [[] for _ in methods]
    for batch in range(len(chosen)):
        contestants = [_contestant(*pair, batch) for pair in jobs]
        for found, each in zip(taken, take_turns(contestants, repeats), strict=True):
            medians = {name: statistics.median(values) for name, values in each.items()}
            found.append(Seconds(**medians))
        report(f"batch {batch + 1} of {len(chosen)}: timed")
    return [_mean(found) for found in taken]


def _jobs(
    method: Method,
    target: LoadedModel,
    draft: LoadedModel | None,
    request: Request,
    answers: Sequence[Sequence[int]],
    chosen: Sequence[Sequence[int]],
) -> tuple[Job, Job]:
    """Jobs of the chosen prompts, and of the prompts with half of their answers.

    Both have the same capacity, so that one program takes in their prompts.
    """
    most = 2 * _BLOCKS * (method.drafter.shape.depth + 1)
    room = fewest_positions(target.model, None if draft is None else draft.model)[0] - most
    prompts, half = [], []
    for index in (index for batch in chosen for index in batch):
        prompt, answer = request.prompts[index], answers[index]
        prompts.append(prompt)
        half.append([*prompt, *answer[: len(answer) // 2]][:room])
    rows = len(chosen[0])
    whole = dataclasses.replace(
        request, prompts=prompts, limits=None, request_ids=None, batch_size=rows
    )
    endless = endless_request(half, request.sampling, most)
    endless = dataclasses.replace(endless, batch_size=rows, skips=request.skips)
    capacity = max(capacity_of(each, method) for each in (whole, endless))
    both = [dataclasses.replace(each, capacity=capacity) for each in (whole, endless)]
    of_prompts, of_blocks = (prepare(method, target, draft, each) for each in both)
    return of_prompts, of_blocks


def _contestant(whole: Job, blocks: Job, batch: int) -> TimedMethod:
    """Measures the prompts and the blocks of one batch of the two jobs of a method."""
    prompts = whole.batches[batch]
    contestant = TimedMethod(
        dataclasses.replace(blocks, batches=[blocks.batches[batch]]), _BLOCKS, phases=False
    )
    start(whole, prompts)  # compiles
    contestant.measures["prompt"] = lambda: timed(start, whole, prompts)[1]
    return contestant


def _mean(found: Sequence[Seconds]) -> Seconds:
    return Seconds(
        prompt=statistics.fmean(each.prompt for each in found),
        block=statistics.fmean(each.block for each in found),
    )
