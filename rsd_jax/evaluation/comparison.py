"""Several methods side by side on the same prompts, in the same calls."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rsd_jax.core.types import LoadedModel
from rsd_jax.engine.batching import capacity_of
from rsd_jax.engine.generation import decode
from rsd_jax.engine.job import prepare
from rsd_jax.engine.methods import Method
from rsd_jax.engine.request import Request, Sampling
from rsd_jax.engine.results import GenerateResult, GenerateStats, join_stats
from rsd_jax.errors import ConfigError
from rsd_jax.evaluation.peers import Peer
from rsd_jax.evaluation.stopwatch import timed, turn_order


@dataclasses.dataclass(frozen=True)
class Measured:
    """One method on all prompts.

    Attributes:
      method: the method.
      tokens: new tokens of each prompt.
      seconds: wall time of each call, prefill included.
      batch_size: rows decoded together.
      prompts_per_call: the last call may decode fewer.
      stats: counts by prompt.
      compile_time: time of the first calls minus the time of the same calls repeated, in seconds.
    """

    method: Method
    tokens: list[list[int]]
    seconds: np.ndarray
    stats: GenerateStats
    compile_time: float
    batch_size: int = 1
    prompts_per_call: int = 1

    def per_call(self, counts: np.ndarray) -> np.ndarray:
        """Sums over each call of a count per prompt."""
        return np.add.reduceat(counts, np.arange(0, len(counts), self.prompts_per_call))


@dataclasses.dataclass(frozen=True)
class PeerRun:
    """One peer on all prompts.

    Attributes:
      peer: the peer.
      tokens: new tokens of all calls.
      seconds: f64[calls].
    """

    peer: Peer
    tokens: int
    seconds: np.ndarray


def steps(
    methods: Sequence[Method],
    prompts: Sequence[Sequence[int]],
    batch_size: int = 1,
    batches_per_call: int = 1,
) -> int:
    """How often `compare` reports progress, without peers."""
    return len(methods) * (1 + -(-len(prompts) // (batch_size * batches_per_call)))


def compare(
    methods: Sequence[Method],
    target: LoadedModel,
    draft: LoadedModel | None,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    progress: Callable[[str], None] = lambda done: None,
    *,
    batch_size: int = 1,
    batches_per_call: int = 1,
    capacity: int | None = None,
    peers: Sequence[Peer] = (),
) -> tuple[list[Measured], list[PeerRun]]:
    """Decodes every prompt with every method and times each call.

    First every program is compiled and run once more, which does not count as decoding time. Then
    methods and peers take turns on the prompts of each call. Each turn starts with the next of
    them, so that slow moments of the machine affect all alike. A prompt's request id is its index.

    Args:
      methods: from `build_method`; "ar" has to be among them if ratios to "ar" are wanted.
      target, draft: from `load_model`.
      prompts: lists of token ids.
      sampling: the same for all methods.
      progress: called with a line of text after each of the `steps`.
      batch_size: rows decoded together.
      batches_per_call: a call decodes batch_size * batches_per_call prompts. With more than one
        batch, a row that is done takes the next prompt of the call; with one, rows that are done
        wait for the longest answer.
      capacity: as in `generate`.
      peers: other engines on the same prompts, which decode the prompts of a call as one batch.

    Returns:
      one `Measured` per method and one `PeerRun` per peer, in order.

    Raises:
      ConfigError: as `generate`; raised before anything runs.
      NonFiniteLogitsError: as `generate`.
    """
    if not prompts:
        raise ConfigError("prompts is empty; give at least one list of token ids")
    size = batch_size * batches_per_call
    calls = [
        range(first, min(first + size, len(prompts))) for first in range(0, len(prompts), size)
    ]

    def request(call: range) -> Request:
        return Request(
            prompts=[prompts[i] for i in call],
            sampling=sampling,
            request_ids=list(call),
            batch_size=batch_size,
            capacity=capacity,
        )

    def decoded(method: Method, call: range) -> GenerateResult:
        return decode(prepare(method, target, draft, request(call)))

    for method in methods:  # Raises errors before anything runs.
        prepare(method, target, draft, request(range(len(prompts))))
    compile_times = []
    for method in methods:
        # One program is compiled for each capacity.
        by_capacity = {capacity_of(request(call), method): call for call in reversed(calls)}
        decoding = functools.partial(decoded, method)
        compile_times.append(_compile_time(decoding, list(by_capacity.values())))
        progress(f"{method.name}: compiled")
    for peer in peers:
        peer.decode([prompts[i] for i in calls[0]])

    ours = [(method.name, functools.partial(decoded, method)) for method in methods]
    theirs = [(peer.name, lambda c, p=peer: p.decode([prompts[i] for i in c])) for peer in peers]
    taken = _take_turns([*ours, *theirs], calls, progress)
    measured = _measured(methods, taken, compile_times, (batch_size, size))
    others = [
        PeerRun(peer, sum(tokens for tokens, _ in runs), np.asarray([s for _, s in runs]))
        for peer, runs in zip(peers, taken[len(methods) :], strict=True)
    ]
    return measured, others


def _measured(
    methods: Sequence[Method],
    taken: Sequence[Sequence[tuple[Any, float]]],
    compile_times: Sequence[float],
    sizes: tuple[int, int],
) -> list[Measured]:
    """Results of our methods, which come first in `taken`; `sizes` are those of `Measured`."""
    batch_size, prompts_per_call = sizes
    return [
        Measured(
            method=method,
            tokens=[row for result, _ in runs for row in result.tokens],
            seconds=np.asarray([seconds for _, seconds in runs]),
            stats=join_stats([result.stats for result, _ in runs]),
            compile_time=compile_time,
            batch_size=batch_size,
            prompts_per_call=prompts_per_call,
        )
        for method, runs, compile_time in zip(methods, taken, compile_times, strict=False)
    ]


def _compile_time(decode: Callable[[range], Any], calls: Sequence[range]) -> float:
    """Time of first calls minus the time of the same calls repeated, in seconds."""
    longer = (timed(decode, call)[1] - timed(decode, call)[1] for call in calls)
    return max(sum(longer), 0.0)


def _take_turns(
    contestants: Sequence[tuple[str, Callable[[range], Any]]],
    calls: Sequence[range],
    progress: Callable[[str], None],
) -> list[list[tuple[Any, float]]]:
    """Result and seconds of every contestant on the prompts of every call."""
    taken: list[list[tuple[Any, float]]] = [[] for _ in contestants]
    for index, call in enumerate(calls):
        for chosen in turn_order(len(contestants), index):
            name, decode = contestants[chosen]
            taken[chosen].append(timed(decode, call))
            progress(f"{name}: {call.stop} of {calls[-1].stop} prompts")
    return taken
