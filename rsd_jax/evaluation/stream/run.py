"""Decodes instances one after the other, each with the method and with autoregressive decoding."""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rsd_jax.evaluation.comparison import Sampling
from rsd_jax.evaluation.stream.phases import PHASES, PhasedAdvance
from rsd_jax.generation import generate
from rsd_jax.job import LoadedModel
from rsd_jax.methods import Method, build_method
from rsd_jax.results import GenerateResult
from rsd_jax.search import InstanceTrace, SearchRun, SearchState, generate_with_search


@dataclasses.dataclass(frozen=True)
class Instance:
    """One prompt, decoded twice.

    Attributes:
      result, seconds: of the method, prefill and search included.
      baseline, baseline_seconds: of autoregressive decoding.
      trace: where the search was, and what it took.
      state: the search afterwards.
    """

    result: GenerateResult
    seconds: float
    baseline: GenerateResult
    baseline_seconds: float
    trace: InstanceTrace
    state: SearchState

    @property
    def rate(self) -> float:
        """Tokens per second of the method."""
        return len(self.result.tokens[0]) / self.seconds

    @property
    def baseline_rate(self) -> float:
        """Tokens per second of autoregressive decoding."""
        return len(self.baseline.tokens[0]) / self.baseline_seconds


def run_stream(
    method: Method,
    target: LoadedModel,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    state: SearchState,
    *,
    capacity: int,
    first: int = 0,
) -> Iterator[Instance]:
    """Decodes a stream, batch 1; the search goes on from instance to instance.

    Everything is compiled before the first instance is timed. Method and baseline take turns in
    going first. An instance's request id is its place, so both runs of `phase_seconds` and this
    one draw the same tokens.

    Args:
      method: one that drafts with its target.
      target: whose tokens are decoded.
      prompts: instances, in order.
      sampling: for both.
      state: of the search before the first instance that is decoded.
      capacity: of the caches, the same for all, so that nothing is compiled on the way.
      first: instance to begin with, for a stream that goes on.

    Yields:
      each instance when it is done.

    Raises:
      ConfigError, NonFiniteLogitsError: as `generate_with_search`.
    """
    options = dataclasses.asdict(sampling) | {"capacity": capacity}
    alone = build_method("ar")

    def own(index: int, state: SearchState) -> SearchRun:
        return generate_with_search(
            method, target, [prompts[index]], state, request_ids=[index], **options
        )

    def baseline(index: int) -> GenerateResult:
        return generate(alone, target, None, [prompts[index]], request_ids=[index], **options)

    own(0, state)
    baseline(0)
    for index in range(first, len(prompts)):
        calls: list[Callable[[], Any]] = [
            functools.partial(own, index, state), functools.partial(baseline, index)
        ]  # fmt: skip
        taken = {}
        for which in (0, 1) if index % 2 == 0 else (1, 0):
            begin = time.perf_counter()
            result = calls[which]()
            taken[which] = result, time.perf_counter() - begin
        run, state = taken[0][0], taken[0][0].state
        yield Instance(run.result, taken[0][1], *taken[1], trace=run.instances[0], state=state)


def phase_seconds(
    method: Method,
    target: LoadedModel,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    state: SearchState,
    progress: Callable[[int], None] = lambda index: None,
    *,
    capacity: int,
) -> list[dict[str, float]]:
    """Decodes the stream again, with a program for each phase.

    Args: as `run_stream`.

    Returns:
      for each instance seconds of "optimize" (suggestions, matchness and the reads for it),
      "draft", "verify" and "others" (all else that the clock saw, prefill included).
    """
    options = dataclasses.asdict(sampling) | {"capacity": capacity}

    def decode(index: int, state: SearchState) -> tuple[SearchRun, dict[str, float]]:
        advance = PhasedAdvance()
        begin = time.perf_counter()
        run = generate_with_search(
            method, target, [prompts[index]], state, request_ids=[index], advance=advance, **options
        )
        total = time.perf_counter() - begin
        spent = run.instances[0].seconds
        seconds = {"optimize": spent["suggest"] + spent["matchness"]} | advance.seconds
        known = sum(seconds[phase] for phase in ("optimize", *PHASES[:2]))
        return run, seconds | {"others": total - known}

    decode(0, state)
    taken = []
    for index in range(len(prompts)):
        run, seconds = decode(index, state)
        state = run.state
        taken.append(seconds)
        progress(index)
    return taken
