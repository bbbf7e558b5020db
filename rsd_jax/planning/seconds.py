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
from rsd_jax.errors import ConfigError, positive_integer
from rsd_jax.evaluation.stopwatch import timed
from rsd_jax.evaluation.timing import TimedMethod, endless_request, take_turns

_BLOCKS = 8  # of a timed call


@dataclasses.dataclass(frozen=True)
class Seconds:
    """What one method takes for one batch, the median over repeats, or the mean over batches.

    Attributes:
      prefill: the pass over the prompts of a batch.
      block: a block.
    """

    prefill: float
    block: float


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
      target, draft: the models.
      request: its prompts and sampling.
      answers: to all prompts; blocks after an empty one begin after the prompt.
      chosen: from `batches_to_time`.
      repeats: how often prompts and blocks of each method and batch are timed.
      report: called with a line of text after each method is compiled and each batch is timed.

    Returns:
      one for each method.

    Raises:
      ConfigError: the models have too few positions for the blocks, or as `generate`.
    """
    rows = len(chosen[0])
    room = _room(methods, target, draft)
    indices = [index for batch in chosen for index in batch]
    whole = dataclasses.replace(
        request,
        prompts=[request.prompts[index] for index in indices],
        limits=[request.limit_of(index) for index in indices],
        request_ids=None,
        batch_size=rows,
    )
    halves = [answers[index][: len(answers[index]) // 2] for index in indices]
    contexts = [[*p, *half][:room] for p, half in zip(whole.prompts, halves, strict=True)]
    jobs: list[tuple[Job, Job]] = []
    for method in methods:
        endless = endless_request(contexts, request.sampling, _most(method))
        endless = dataclasses.replace(endless, batch_size=rows, skips=request.skips)
        # With the same capacity, one program takes in the prompts of both.
        capacity = max(capacity_of(each, method) for each in (whole, endless))
        of_prompts, of_blocks = (
            prepare(method, target, draft, dataclasses.replace(each, capacity=capacity))
            for each in (whole, endless)
        )
        jobs.append((of_prompts, of_blocks))
        _contestant(*jobs[-1], 0)
        report(f"{method.name} {method.tree}: compiled")
    taken: list[list[Seconds]] = [[] for _ in methods]
    for batch in range(len(chosen)):
        contestants = [_contestant(*both, batch) for both in jobs]
        for found, each in zip(taken, take_turns(contestants, repeats), strict=True):
            medians = {name: statistics.median(values) for name, values in each.items()}
            found.append(Seconds(**medians))
        report(f"batch {batch + 1} of {len(chosen)}: timed")
    return [_mean(found) for found in taken]


def _most(method: Method) -> int:
    """The most tokens of a timed call and of the blocks before it."""
    return 2 * _BLOCKS * (method.drafter.shape.depth + 1)


def _room(methods: Sequence[Method], target: LoadedModel, draft: LoadedModel | None) -> int:
    """The most tokens before the timed blocks, the same for all methods."""
    positions, which = fewest_positions(target.model, None if draft is None else draft.model)
    deepest = max(methods, key=_most)
    if positions <= _most(deepest):
        raise ConfigError(
            f"{2 * _BLOCKS} blocks of {deepest.name} {deepest.tree} may take {_most(deepest)} "
            f"tokens, and the {which} has {positions} positions; leave this method out"
        )
    return positions - _most(deepest)


def _contestant(whole: Job, blocks: Job, batch: int) -> TimedMethod:
    """Measures the prompts and the blocks of one batch of the two jobs of a method."""
    prompts = whole.batches[batch]
    contestant = TimedMethod(
        dataclasses.replace(blocks, batches=[blocks.batches[batch]]), _BLOCKS, phases=False
    )
    contestant.measures["prefill"] = lambda: timed(start, whole, prompts)[1]
    return contestant


def _mean(found: Sequence[Seconds]) -> Seconds:
    return Seconds(
        prefill=statistics.fmean(each.prefill for each in found),
        block=statistics.fmean(each.block for each in found),
    )
