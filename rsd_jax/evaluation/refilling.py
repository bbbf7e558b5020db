"""What it brings to give the next prompt to a row that is done, held against whole batches."""

import dataclasses
import heapq
import statistics
from collections.abc import Sequence

import numpy as np

from rsd_jax.core.types import LoadedModel
from rsd_jax.engine.generation import decode, join_results
from rsd_jax.engine.job import Job, prepare
from rsd_jax.engine.methods import Method
from rsd_jax.engine.request import Request, Sampling
from rsd_jax.engine.results import GenerateResult
from rsd_jax.evaluation.stopwatch import timed, turn_order
from rsd_jax.reporting.table_formats import Table


@dataclasses.dataclass(frozen=True)
class Refilled:
    """One method on the same prompts in both ways.

    Attributes:
      name: of the method, with its tree.
      tokens: new tokens of all prompts.
      whole_batches: median seconds of the decoding batch by batch, each until all its rows are
        done.
      refilled: median seconds with rows refilled.
      prefills: median seconds of the two ways with one new token for each prompt: what they spend
        on the prompts.
      bound: the most that refilling can bring if every block takes the same time and prefill takes
        none: blocks of the whole batches over those of rows that are never empty.
      bound_in_order: the same if each prompt, in order, takes the row that is free first; the last
        rows then end at different times.
    """

    name: str
    tokens: int
    whole_batches: float
    refilled: float
    prefills: tuple[float, float]
    bound: float
    bound_in_order: float

    @property
    def gain(self) -> float:
        """Token rate with rows refilled over that of whole batches."""
        return self.whole_batches / self.refilled

    @property
    def gain_of_blocks(self) -> float:
        """The gain if neither way spent time on the prompts."""
        return (self.whole_batches - self.prefills[0]) / (self.refilled - self.prefills[1])

    @property
    def block_ratio(self) -> float:
        """Seconds of a block with rows refilled, reads by the host included, over those without."""
        return self.bound_in_order / self.gain_of_blocks


def mixed_limits(count: int, *, short: int = 32, long: int = 128, seed: int = 0) -> list[int]:
    """max_new_tokens of `count` prompts: three quarters `short`, one quarter `long`, shuffled."""
    limits = np.where(np.arange(count) % 4 == 3, long, short)
    return np.random.default_rng(seed).permutation(limits).tolist()


def time_refilling(
    methods: Sequence[Method],
    target: LoadedModel,
    draft: LoadedModel | None,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    limits: Sequence[int],
    *,
    batch_size: int,
    repeats: int = 5,
) -> list[Refilled]:
    """Times every method in both ways, in turns, after each has run once.

    Args:
      methods: from `build_method`.
      target, draft: from `load_model`.
      prompts: lists of token ids.
      sampling: its eos_ids are ignored, so that `limits` are the lengths.
      limits: new tokens of each prompt.
      batch_size: rows.
      repeats: timed runs of each method in each way; medians are over these.

    Raises:
      ConfigError: as `generate`.
      RuntimeError: the two ways gave different tokens.
    """
    found = []
    for method in methods:
        models = (method, target, draft)
        jobs = _jobs(*models, prompts, sampling, limits, batch_size)
        only_prompts = _jobs(*models, prompts, sampling, limits, batch_size, new_tokens=1)
        results = [_decoded(each) for each in jobs]
        if results[0].tokens != results[1].tokens:
            raise RuntimeError(f"{method.name} {method.tree}: refilled rows gave other tokens")
        whole, refilled, *prefills = _medians([*jobs, *only_prompts], repeats)
        found.append(
            Refilled(
                f"{method.name} {method.tree}",
                int(results[0].num_tokens.sum()),
                whole_batches=whole,
                refilled=refilled,
                prefills=(prefills[0], prefills[1]),
                bound=best_gain(results[0].stats.blocks, batch_size),
                bound_in_order=gain_in_order(results[0].stats.blocks, batch_size),
            )
        )
    return found


def _medians(contestants: Sequence[Sequence[Job]], repeats: int) -> list[float]:
    """Median seconds of each, measured in turns."""
    seconds: list[list[float]] = [[] for _ in contestants]
    for turn in range(repeats):
        for which in turn_order(len(contestants), turn):
            seconds[which].append(timed(_decoded, contestants[which])[1])
    return [statistics.median(each) for each in seconds]


def best_gain(blocks: np.ndarray, batch_size: int) -> float:
    """The bound of `Refilled`, from the blocks of each prompt, i32[P]."""
    return _of_whole_batches(blocks, batch_size) / max(blocks.sum() / batch_size, blocks.max())


def gain_in_order(blocks: np.ndarray, batch_size: int) -> float:
    """`Refilled.bound_in_order`, from the blocks of each prompt, i32[P]."""
    ends = [0] * batch_size
    for own in blocks.tolist():
        heapq.heapreplace(ends, ends[0] + own)
    return _of_whole_batches(blocks, batch_size) / max(ends)


def _of_whole_batches(blocks: np.ndarray, batch_size: int) -> float:
    """Blocks until all prompts are done, batch by batch."""
    return float(np.maximum.reduceat(blocks, np.arange(0, len(blocks), batch_size)).sum())


def refilling_table(measured: Sequence[Refilled]) -> Table:
    """A line per method."""
    heads = (
        "method",
        "whole batches tokens/s",
        "refilled tokens/s",
        "gain",
        "bound of the gain",
        "bound in order",
        "prompts alone s",
        "gain without prompts",
        "block refilled / whole",
    )
    lines = [
        [
            one.name,
            f"{one.tokens / one.whole_batches:.1f}",
            f"{one.tokens / one.refilled:.1f}",
            f"{one.gain:.2f}",
            f"{one.bound:.2f}",
            f"{one.bound_in_order:.2f}",
            "{:.2f}, {:.2f}".format(*one.prefills),
            f"{one.gain_of_blocks:.2f}",
            f"{one.block_ratio:.2f}",
        ]
        for one in measured
    ]
    return Table(heads, lines, frozenset({0}))


def _jobs(
    method: Method,
    target: LoadedModel,
    draft: LoadedModel | None,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    limits: Sequence[int],
    batch_size: int,
    *,
    new_tokens: int | None = None,
) -> tuple[list[Job], list[Job]]:
    """A job per batch, and one job of all prompts; with the same capacity, request ids and seed.

    The capacity is that of `limits`, also if every prompt gets `new_tokens` new tokens instead.
    """
    endless = dataclasses.replace(sampling, eos_ids=(), max_new_tokens=max(limits))
    longest = max(map(len, prompts)) + max(limits)

    def job(chosen: range) -> Job:
        request = Request(
            prompts=[prompts[i] for i in chosen],
            sampling=endless,
            limits=[new_tokens or limits[i] for i in chosen],
            request_ids=list(chosen),
            batch_size=batch_size,
            capacity=longest,
        )
        return prepare(method, target, draft, request)

    count = len(prompts)
    firsts = range(0, count, batch_size)
    batches = [range(first, min(first + batch_size, count)) for first in firsts]
    return [job(batch) for batch in batches], [job(range(count))]


def _decoded(jobs: Sequence[Job]) -> GenerateResult:
    return join_results([decode(job) for job in jobs])
