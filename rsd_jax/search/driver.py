"""Decoding with a search: candidates are scored between blocks, and better ones are adopted."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Unpack

import jax
import jax.numpy as jnp
import numpy as np

from rsd_jax.core.identity import check_identity, search_identity
from rsd_jax.core.processes import agreed, read
from rsd_jax.core.types import LoadedModel
from rsd_jax.drafters.base import ModelParams
from rsd_jax.engine import decoding
from rsd_jax.engine.batching import Batch
from rsd_jax.engine.decoding import UNLIMITED
from rsd_jax.engine.generation import failed_rows, join_results, to_result
from rsd_jax.engine.job import Job, prepare, start
from rsd_jax.engine.methods import Method
from rsd_jax.engine.phases import DecodeOptions, Engine
from rsd_jax.engine.request import Request, RequestOptions, shows_options
from rsd_jax.engine.results import GenerateResult
from rsd_jax.engine.rows import read_state
from rsd_jax.engine.state import DecodeState
from rsd_jax.errors import ConfigError, NonFiniteLogitsError
from rsd_jax.search.candidates import propose
from rsd_jax.search.matchness import Reading, read_matchness
from rsd_jax.search.state import Candidate, SearchState
from rsd_jax.search.trace import Clock, InstanceTrace, Iteration


@dataclasses.dataclass(frozen=True)
class SearchRun:
    """What `generate_with_search` returns.

    Attributes:
      result: as from `generate`.
      state: the state of the search after this call, to be passed to the next call or saved.
      instances: one trace per batch.
      iterations: one per candidate that was scored.
    """

    result: GenerateResult
    state: SearchState
    instances: list[InstanceTrace]
    iterations: list[Iteration]


Advance = Callable[[Engine, ModelParams, DecodeState, DecodeOptions, Any], DecodeState]
"""The function that runs blocks: `advance`, or one that also measures the blocks."""


def advance(
    engine: Engine, params: ModelParams, state: DecodeState, options: DecodeOptions, max_blocks: Any
) -> DecodeState:
    """Runs blocks until every row is done or `max_blocks` have run; donates `state`."""
    return decoding.advance(engine, params, state, options, max_blocks, UNLIMITED)


class _Search:
    """The search during one call: its state changes from batch to batch."""

    def __init__(self, job: Job, state: SearchState, advance: Advance):
        self.job, self.state, self._advance = job, state, advance
        self.iterations: list[Iteration] = []
        self._next: Candidate | None = None

    def decode(self, batch: Batch, instance: int) -> tuple[dict[str, Any], InstanceTrace]:
        """Decodes one batch; returns the output of `read_state` and the trace."""
        clock, steps, before = Clock(), 0, len(self.iterations)
        passes: Counter[tuple[int, int]] = Counter()
        with clock.phase("prefill"):
            state = jax.block_until_ready(start(self.job, batch))
        done = False
        while not done:
            searching, skips = self.state.stopped is None, self.state.skips
            blocks = np.int32(self.state.config.opt_interval) if searching else UNLIMITED
            params = dataclasses.replace(self.job.params, skips=jnp.asarray(skips))
            with clock.phase("decode"):
                state = jax.block_until_ready(
                    self._advance(self.job.engine, params, state, self.job.options, blocks)
                )
            steps, done = steps + 1, True
            if searching:
                reading = self._try_candidate(state, instance, clock)
                done = bool(reading.all_done)
                passes[_skipped(skips)] += int(reading.drafted) - passes.total()
        read = read_state(state)
        passes[_skipped(skips)] += int(read["stats"].drafted.sum()) - passes.total()
        trace = InstanceTrace(
            tokens=int((read["end"] - read["prompt_length"])[: batch.rows].sum()),
            iterations=len(self.iterations) - before,
            best_score=self.state.best_score,
            steps=steps,
            host_reads=1 + (steps if searching else steps - 1),
            draft_passes=dict(passes),
            seconds=clock.seconds,
            total_seconds=clock.total(),
        )
        return read, trace

    def _try_candidate(self, decoding: DecodeState, instance: int, clock: Clock) -> Reading:
        """Scores the next candidate if the response of some row is long enough."""
        with clock.phase("suggest"):
            candidate = self._next = self._next or agreed(propose(self.state))
        engine = self.job.engine
        with clock.phase("matchness"):
            scored = read_matchness(
                engine.models.target,
                self.job.params.target,
                decoding,
                jnp.asarray(candidate.skips),
                self.state.config.context,
                engine.layout,
            )
            jax.block_until_ready(scored)
        with clock.phase("read"):
            reading = read(scored)
        if reading.scored:
            score, best = float(reading.score), self.state.best_score
            self.state, self._next = self.state.update(candidate, score), None
            skipped = int(candidate.switches.sum())
            self.iterations.append(
                Iteration(instance, score, score > best, candidate.suggested, skipped)
            )
        return reading


def _skipped(skips: np.ndarray) -> tuple[int, int]:
    """The numbers of attentions and of MLPs that a skip set skips."""
    attentions, mlps = skips.sum(axis=0).tolist()
    return attentions, mlps


@shows_options
def generate_with_search(
    method: Method,
    target: LoadedModel,
    prompts: Sequence[Sequence[int]],
    state: SearchState,
    **options: Unpack[RequestOptions],
) -> SearchRun:
    """Decodes prompts and searches for a skip set on the way (Xia et al. 2025, SWIFT).

    Every `opt_interval` blocks, a candidate is scored on the tokens decoded so far, and adopted if
    its score is better than all scores before. The set changes only between blocks and depends
    only on committed tokens, so the output has exactly the target's law. But the tokens that a row
    draws may depend on the other rows of its batch. Once the search has stopped, a batch runs
    without interruption, as in `generate`. Nothing is compiled for a new set.

    Args:
      method: a method that drafts with its target: `swift`, `self_rsd_s`, ...
      target: the model that `state` was made or loaded for.
      prompts: as in `generate`. Candidates are scored on a row only if its response has more than
        `config.context` + 1 tokens; while no row has, the search does not advance.
      state: from `SearchState.new` or `.load`; not changed. With a state from `.at_rest()`, no
        candidate is scored.
      **options: see `RequestOptions`.

    Raises:
      ConfigError: as `generate`; the method skips nothing; the state is of another model.
      NonFiniteLogitsError: as `generate`.
    """
    job = prepare(method, target, None, Request.of(prompts, **options))
    if not method.drafter.needs_skips:
        raise ConfigError(
            f"method {method.name!r} does not draft with its target, so there is no skip set to "
            "search for; use swift or one of the self_ methods"
        )
    check_identity("the search", state.identity, search_identity(target))
    return search_through(job, state)


def search_through(job: Job, state: SearchState, advance: Advance = advance) -> SearchRun:
    """Decodes the batches of a checked job, one after the other, and searches on the way.

    Args:
      job: of a method that drafts with its target.
      state: of a search for that target.
      advance: runs the blocks; a caller can pass a function that also times their phases.

    Raises:
      NonFiniteLogitsError: as `generate`.
    """
    search, instances = _Search(job, state, advance), []
    results: list[GenerateResult] = []
    failures: dict[int, int] = {}
    for index, batch in enumerate(job.batches):
        read, trace = search.decode(batch, index)
        instances.append(trace)
        results.append(to_result(read, range(batch.rows)))
        failures |= failed_rows(read, batch)
    result = join_results(results)
    if failures:
        raise NonFiniteLogitsError(failures, result)
    return SearchRun(result, search.state, instances, search.iterations)
