"""Decoding while searching: a candidate is scored between blocks, and a better set is adopted."""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from rsd_jax.batching import Batch
from rsd_jax.decoding import DecodeOptions, Engine, advance
from rsd_jax.drafters.base import ModelParams
from rsd_jax.errors import ConfigError, NonFiniteLogitsError
from rsd_jax.generation import UNLIMITED, failed_rows, join_results, read_state, to_result
from rsd_jax.job import Job, LoadedModel, prepare, start
from rsd_jax.methods import Method
from rsd_jax.results import GenerateResult
from rsd_jax.search.candidates import propose
from rsd_jax.search.identity import check_identity, model_identity
from rsd_jax.search.matchness import read_matchness
from rsd_jax.search.state import Candidate, SearchState
from rsd_jax.search.trace import Clock, InstanceTrace, Iteration
from rsd_jax.state import DecodeState


@dataclasses.dataclass(frozen=True)
class SearchRun:
    """What `generate_with_search` returns.

    Attributes:
      result: as `generate` would return it.
      state: the search afterwards; hand it to the next call, or save it.
      instances: one per batch.
      iterations: one per candidate that was scored.
    """

    result: GenerateResult
    state: SearchState
    instances: list[InstanceTrace]
    iterations: list[Iteration]


Advance = Callable[[Engine, ModelParams, DecodeState, DecodeOptions, Any], DecodeState]
"""What runs blocks: `decoding.advance`, or what does the same and looks at it."""


class _Search:
    """A search that moves with the batches of one call."""

    def __init__(self, job: Job, state: SearchState, advance: Advance):
        self.job, self.state, self._advance = job, state, advance
        self.iterations: list[Iteration] = []
        self._next: Candidate | None = None

    def decode(self, batch: Batch, instance: int) -> tuple[DecodeState, InstanceTrace]:
        """Decodes one batch; the trace lacks what the final read shows."""
        clock, steps, reads, before = Clock(), 0, 0, len(self.iterations)
        with clock.phase("prefill"):
            decoding = jax.block_until_ready(start(self.job, batch))
        done = False
        while not done:
            searching = self.state.stopped is None
            blocks = np.int32(self.state.config.opt_interval) if searching else UNLIMITED
            params = dataclasses.replace(self.job.params, skips=jnp.asarray(self.state.skips))
            with clock.phase("decode"):
                decoding = jax.block_until_ready(
                    self._advance(self.job.engine, params, decoding, self.job.options, blocks)
                )
            steps, done = steps + 1, not searching
            if searching:
                done = self._try_candidate(decoding, instance, clock)
                reads += 1
        trace = InstanceTrace(
            tokens=0,
            iterations=len(self.iterations) - before,
            best_score=self.state.best_score,
            steps=steps,
            host_reads=reads,
            seconds=clock.seconds,
            total_seconds=clock.total(),
        )
        return decoding, trace

    def _try_candidate(self, decoding: DecodeState, instance: int, clock: Clock) -> bool:
        """Scores the next candidate if a row is long enough; returns whether all rows are done."""
        with clock.phase("suggest"):
            candidate = self._next = self._next or propose(self.state)
        with clock.phase("matchness"):
            reading = jax.device_get(
                read_matchness(
                    self.job.engine.models.target, self.job.params.target, decoding,
                    jnp.asarray(candidate.skips), self.state.config.context,
                )
            )  # fmt: skip
        if reading.scored:
            score, best = float(reading.score), self.state.best_score
            self.state, self._next = self.state.update(candidate, score), None
            skipped = int(candidate.switches.sum())
            self.iterations.append(
                Iteration(instance, score, score > best, candidate.suggested, skipped)
            )
        return bool(reading.all_done)


def generate_with_search(
    method: Method,
    target: LoadedModel,
    prompts: Sequence[Sequence[int]],
    state: SearchState,
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    seed: int = 0,
    request_ids: Sequence[int] | None = None,
    eos_id: int | Sequence[int] | None = None,
    batch_size: int | None = None,
    capacity: int | None = None,
    advance: Advance = advance,
) -> SearchRun:
    """Decodes prompts and searches for a skip set on the way (Xia et al. 2025, SWIFT).

    Every `opt_interval` blocks a candidate is scored on what has been decoded, and adopted if it is
    better than all before. The set changes between blocks only and depends on committed tokens
    only, so the output has exactly the target's law; but which tokens a row draws may depend on its
    batch. Once the search has stopped, a batch runs without interruption, as in `generate`. Nothing
    is compiled for a new set.

    Args:
      method: one that drafts with its target: `swift`, `self_rsd_s`, ...
      target: what `state` was made or loaded for.
      prompts, max_new_tokens, ..., batch_size: as in `generate`. A row is used once its response
        has more than `config.context` + 1 tokens: shorter ones leave the search where it is.
      state: from `SearchState.new` or `.load`; not changed.

      advance: runs the blocks; another one can time their phases.

    Raises:
      ConfigError: as `generate`; a method that skips nothing; a state of another model.
      NonFiniteLogitsError: as `generate`.
    """
    job = prepare(
        method, target, None, prompts,
        max_new_tokens=max_new_tokens, temperature=temperature, top_k=top_k, top_p=top_p,
        seed=seed, request_ids=request_ids, eos_id=eos_id, batch_size=batch_size,
        capacity=capacity,
    )  # fmt: skip
    if not method.drafter.needs_skips:
        raise ConfigError(
            f"method {method.name!r} does not draft with its target, so there is no skip set to "
            "search for; use swift or one of the self_ methods"
        )
    check_identity("the search", state.identity, model_identity(target))
    search, instances = _Search(job, state, advance), []
    results: list[GenerateResult] = []
    failures: dict[int, int] = {}
    for index, batch in enumerate(job.batches):
        decoding, trace = search.decode(batch, index)
        read = read_state(decoding)
        results.append(to_result(read, batch.rows))
        failures |= failed_rows(read, batch)
        tokens = int(results[-1].num_tokens.sum())
        instances.append(dataclasses.replace(trace, tokens=tokens, host_reads=trace.host_reads + 1))
    result = join_results(results)
    if failures:
        raise NonFiniteLogitsError(failures, result)
    return SearchRun(result, search.state, instances, search.iterations)
