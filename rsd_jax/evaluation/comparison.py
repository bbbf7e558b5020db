"""Several methods side by side on the same prompts, in the same batches."""

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
      seconds: wall time of each batch, prefill included.
      batch_size: prompts per batch; the last may hold fewer.
      stats: counts by prompt.
      compile_time: time of the first calls minus the time of the same calls repeated, in seconds.
    """

    method: Method
    tokens: list[list[int]]
    seconds: np.ndarray
    stats: GenerateStats
    compile_time: float
    batch_size: int = 1

    def per_batch(self, counts: np.ndarray) -> np.ndarray:
        """Sums over each batch of a count per prompt."""
        return np.add.reduceat(counts, np.arange(0, len(counts), self.batch_size))


@dataclasses.dataclass(frozen=True)
class PeerRun:
    """One peer on all prompts.

    Attributes:
      peer: the peer.
      tokens: new tokens of all batches.
      seconds: f64[batches].
    """

    peer: Peer
    tokens: int
    seconds: np.ndarray


def steps(methods: Sequence[Method], prompts: Sequence[Sequence[int]], batch_size: int = 1) -> int:
    """How often `compare` reports progress, without peers."""
    return len(methods) * (1 + -(-len(prompts) // batch_size))


def compare(
    methods: Sequence[Method],
    target: LoadedModel,
    draft: LoadedModel | None,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    progress: Callable[[str], None] = lambda done: None,
    *,
    batch_size: int = 1,
    capacity: int | None = None,
    peers: Sequence[Peer] = (),
) -> tuple[list[Measured], list[PeerRun]]:
    """Decodes every prompt with every method and times each call.

    First every program is compiled and run once more, which does not count as decoding time. Then
    methods and peers take turns on each batch. Each batch starts with the next of them, so that
    slow moments of the machine affect all alike. A prompt's request id is its index.

    Args:
      methods: from `build_method`; "ar" has to be among them if ratios to "ar" are wanted.
      target, draft: from `load_model`.
      prompts: lists of token ids.
      sampling: the same for all methods.
      progress: called with a line of text after each of the `steps`.
      batch_size: prompts decoded together.
      capacity: as in `generate`.
      peers: other engines on the same prompts.

    Returns:
      one `Measured` per method and one `PeerRun` per peer, in order.

    Raises:
      ConfigError: as `generate`; raised before anything runs.
      NonFiniteLogitsError: as `generate`.
    """
    if not prompts:
        raise ConfigError("prompts is empty; give at least one list of token ids")
    batches = [
        range(first, min(first + batch_size, len(prompts)))
        for first in range(0, len(prompts), batch_size)
    ]

    def request(batch: range) -> Request:
        return Request(
            prompts=[prompts[i] for i in batch],
            sampling=sampling,
            request_ids=list(batch),
            batch_size=batch_size,
            capacity=capacity,
        )

    def decoded(method: Method, batch: range) -> GenerateResult:
        return decode(prepare(method, target, draft, request(batch)))

    for method in methods:  # Raises errors before anything runs.
        prepare(method, target, draft, request(range(len(prompts))))
    compile_times = []
    for method in methods:
        # One program is compiled for each capacity.
        by_capacity = {capacity_of(request(batch), method): batch for batch in reversed(batches)}
        decoding = functools.partial(decoded, method)
        compile_times.append(_compile_time(decoding, list(by_capacity.values())))
        progress(f"{method.name}: compiled")
    for peer in peers:
        peer.decode([prompts[i] for i in batches[0]])

    ours = [(method.name, functools.partial(decoded, method)) for method in methods]
    theirs = [(peer.name, lambda b, p=peer: p.decode([prompts[i] for i in b])) for peer in peers]
    taken = _take_turns([*ours, *theirs], batches, progress)
    measured = _measured(methods, taken, compile_times, batch_size)
    others = [
        PeerRun(peer, sum(tokens for tokens, _ in runs), np.asarray([s for _, s in runs]))
        for peer, runs in zip(peers, taken[len(methods) :], strict=True)
    ]
    return measured, others


def _measured(
    methods: Sequence[Method],
    taken: Sequence[Sequence[tuple[Any, float]]],
    compile_times: Sequence[float],
    batch_size: int,
) -> list[Measured]:
    """Results of our methods, which come first in `taken`."""
    return [
        Measured(
            method=method,
            tokens=[row for result, _ in runs for row in result.tokens],
            seconds=np.asarray([seconds for _, seconds in runs]),
            stats=join_stats([result.stats for result, _ in runs]),
            compile_time=compile_time,
            batch_size=batch_size,
        )
        for method, runs, compile_time in zip(methods, taken, compile_times, strict=False)
    ]


def _compile_time(decode: Callable[[range], Any], batches: Sequence[range]) -> float:
    """Time of first calls minus the time of the same calls repeated, in seconds."""
    longer = (timed(decode, batch)[1] - timed(decode, batch)[1] for batch in batches)
    return max(sum(longer), 0.0)


def _take_turns(
    contestants: Sequence[tuple[str, Callable[[range], Any]]],
    batches: Sequence[range],
    progress: Callable[[str], None],
) -> list[list[tuple[Any, float]]]:
    """Result and seconds of every contestant on every batch."""
    taken: list[list[tuple[Any, float]]] = [[] for _ in contestants]
    for index, batch in enumerate(batches):
        for chosen in turn_order(len(contestants), index):
            name, decode = contestants[chosen]
            taken[chosen].append(timed(decode, batch))
            progress(f"{name}: {batch.stop} of {batches[-1].stop} prompts")
    return taken
