"""Decodes instances one after the other, each with the method and with autoregressive decoding."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rsd_jax.core.types import LoadedModel
from rsd_jax.engine.generation import decode
from rsd_jax.engine.job import Job, prepare
from rsd_jax.engine.methods import Method, build_method
from rsd_jax.engine.request import Request, Sampling
from rsd_jax.engine.results import GenerateResult
from rsd_jax.evaluation.stopwatch import timed, turn_order
from rsd_jax.evaluation.stream.phases import PhasedAdvance
from rsd_jax.search import InstanceTrace, SearchRun, SearchState
from rsd_jax.search.candidates import propose
from rsd_jax.search.driver import Advance, advance, search_through
from rsd_jax.search.trace import SEARCHING


@dataclasses.dataclass(frozen=True)
class Instance:
    """One prompt, decoded twice.

    Attributes:
      result, seconds: of the method, prefill and search included.
      baseline, baseline_seconds: of autoregressive decoding.
      trace: progress and times of the search.
      state: state of the search after this instance.
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


class _Decoder:
    """Decodes single instances of a stream, with the method or by autoregressive decoding."""

    def __init__(
        self,
        method: Method,
        target: LoadedModel,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        capacity: int,
    ):
        self._method, self._target, self._prompts = method, target, prompts
        self._sampling, self._capacity = sampling, capacity

    def own(self, index: int, state: SearchState, advance: Advance = advance) -> SearchRun:
        return search_through(self._job(self._method, index), state, advance)

    def baseline(self, index: int) -> GenerateResult:
        return decode(self._job(build_method("ar"), index))

    def _job(self, method: Method, index: int) -> Job:
        request = Request(
            prompts=[self._prompts[index]],
            sampling=self._sampling,
            request_ids=[index],
            capacity=self._capacity,
        )
        return prepare(method, self._target, None, request)

    def warm_up(self, state: SearchState, advance: Advance = advance) -> None:
        """Compiles all programs, and imports the libraries of a Bayesian suggestion."""
        self.own(0, state, advance)
        self.baseline(0)
        if state.stopped is None and state.config.bayes_every <= state.config.max_iterations:
            tried = state
            while tried.iterations < 2:
                tried = tried.update(propose(tried), 0.0)
            config = dataclasses.replace(state.config, bayes_every=1)
            propose(dataclasses.replace(tried, config=config))


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
    """Decodes a stream with batch size 1; the search goes on from instance to instance.

    All programs are compiled before the first instance is timed. Method and baseline take turns
    in going first. An instance's request id is its index, so `run_stream` and `phase_seconds` draw
    the same tokens.

    Args:
      method: a method that drafts with its target.
      target: the model to decode with.
      prompts: instances, in order.
      sampling: for the method and the baseline.
      state: of the search before instance `first`.
      capacity: of the caches of all instances, so that no instance compiles anything.
      first: instance to begin with; not 0 for a stream that is resumed.

    Yields:
      each instance after it is decoded.

    Raises:
      ConfigError, NonFiniteLogitsError: as `generate`.
    """
    decoder = _Decoder(method, target, prompts, sampling, capacity)
    decoder.warm_up(state)
    for index in range(first, len(prompts)):
        calls: list[Callable[[], Any]] = [
            functools.partial(decoder.own, index, state),
            functools.partial(decoder.baseline, index),
        ]
        taken = {}
        for which in turn_order(len(calls), index):
            taken[which] = timed(calls[which])
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
      for each instance the seconds per token of "optimize" (candidates, matchness and reads for
      matchness), "draft", "verify" and "others" (the rest of the time, prefill included).
    """
    decoder = _Decoder(method, target, prompts, sampling, capacity)
    decoder.warm_up(state, PhasedAdvance())
    taken = []
    for index in range(len(prompts)):
        advance = PhasedAdvance()
        run, total = timed(decoder.own, index, state, advance)
        state, spent = run.state, run.instances[0].seconds
        seconds = {"optimize": sum(spent[name] for name in SEARCHING)} | advance.seconds
        seconds["others"] = total - sum(seconds[name] for name in ("optimize", "draft", "verify"))
        tokens = len(run.result.tokens[0])
        taken.append({name: value / tokens for name, value in seconds.items()})
        progress(index)
    return taken
