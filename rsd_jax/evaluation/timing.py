"""Timing of compiled phases on a state in the middle of decoding."""

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from rsd_jax.core.types import LoadedModel
from rsd_jax.engine import decoding
from rsd_jax.engine import phase_programs as programs
from rsd_jax.engine.decoding import UNLIMITED
from rsd_jax.engine.job import Job, prepare, start
from rsd_jax.engine.methods import Method
from rsd_jax.engine.phases import Engine
from rsd_jax.engine.request import Request, Sampling
from rsd_jax.engine.state import DecodeState
from rsd_jax.evaluation.forwards import forwards
from rsd_jax.evaluation.stopwatch import timed, turn_order


@dataclasses.dataclass(frozen=True)
class BlockTimes:
    """Median seconds of one method at one batch size.

    Attributes:
      compile: lowering and compiling `prefill` and `advance`.
      prefill: prefill of the batch.
      draft, score, verify, commit: phases, each as a separate program, dispatch included.
      block: one block of the fused loop.
      forwards: only the model passes of a block, in a loop like the fused loop; None for methods
        whose passes have no fixed number or width, and for those that draft with the target.
      outside: fraction of the fused block that is not spent in model passes: the median over pairs
        of `forwards` and `block` measured right after one another. Noise can make it negative.
        None without `forwards`.
      peak_bytes: device memory of `advance`: arguments, results and temporaries; None if the
        compiler does not say.
    """

    compile: float
    prefill: float
    draft: float
    score: float
    verify: float
    commit: float
    block: float
    forwards: float | None
    outside: float | None
    peak_bytes: int | None = None

    @property
    def phase_sum(self) -> float:
        """Sum of the phases, to compare with `block`."""
        return self.draft + self.score + self.verify + self.commit


def _compiled(engine: Engine, arguments: tuple[Any, ...], program: Any) -> tuple[Any, float]:
    """A program of the engine, compiled, and the seconds that this took."""
    return timed(lambda: program.lower(engine, *arguments).compile())


def _peak_bytes(compiled: Any) -> int | None:
    """Device memory of a compiled program, as its compiler says."""
    found = compiled.memory_analysis()
    if found is None:
        return None
    held = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    return int(held + found.temp_size_in_bytes)


class TimedMethod:
    """One method on a batch in the middle of decoding; all timed programs have run once.

    Attributes:
      compile, peak_bytes: see `BlockTimes`.
      measures: by field of `BlockTimes`, functions that return the seconds of a prefill, phase or
        block. A caller may add measures.
    """

    def __init__(self, job: Job, blocks: int, *, phases: bool = True):
        """Decodes the job's first batch for `blocks` blocks and prepares the measures.

        Args:
          job: its rows must not end while timed.
          blocks: blocks per timed call of the fused loop, and blocks that lead to the timed state.
          phases: whether to measure all fields of `BlockTimes`; else only `block`.
        """
        self._job = job
        self._steps = jnp.asarray(blocks, jnp.int32)
        batch = job.batches[0]
        prompts = jax.tree.map(jnp.asarray, (job.seed, batch.prompts))
        begun = start(job, batch)
        engine, params = job.engine, job.params
        _, prefill_seconds = _compiled(engine, (params, *prompts), decoding.prefill)
        arguments = (params, begun, job.options, self._steps, UNLIMITED)
        program, advance_seconds = _compiled(engine, arguments, decoding.advance)
        self.compile = prefill_seconds + advance_seconds
        self.peak_bytes = _peak_bytes(program)
        self._state = decoding.advance(engine, *arguments)
        self.measures: dict[str, Callable[[], float]] = {}
        if phases:
            self.measures["prefill"] = lambda: _seconds(start, job, batch)
            self.measures |= self._phases()
        # The block comes right after the passes alone, with which `outside` pairs it.
        self.measures["block"] = lambda: _seconds(self.advance, self.fresh_state()) / blocks
        for measure in self.measures.values():
            measure()

    def fresh_state(self) -> DecodeState:
        """A copy of the timed state, which may be donated."""
        return jax.block_until_ready(jax.tree.map(jnp.copy, self._state))

    def advance(self, state: DecodeState) -> DecodeState:
        """Runs the blocks of one timed call; the state is donated."""
        job = self._job
        return decoding.advance(job.engine, job.params, state, job.options, self._steps, UNLIMITED)

    def _phases(self) -> dict[str, Callable[[], float]]:
        """The measures of the phases, each a program of its own, and of the passes alone."""
        job, state = self._job, self._state
        engine, params, options = job.engine, job.params, job.options
        tree, drafted = programs.draft(engine, params, state, options)
        logits, scored = programs.score(engine, params, drafted, tree)
        result = programs.verify(engine, scored, tree, logits, options)

        def commit() -> float:
            donated = jax.block_until_ready(jax.tree.map(jnp.copy, scored))
            return _seconds(programs.commit, engine, donated, tree, result, options)

        measures: dict[str, Callable[[], float]] = {
            "draft": lambda: _seconds(programs.draft, engine, params, state, options),
            "score": lambda: _seconds(programs.score, engine, params, drafted, tree),
            "verify": lambda: _seconds(programs.verify, engine, scored, tree, logits, options),
            "commit": commit,
        }
        if not engine.drafter.needs_skips and engine.drafter.pass_widths is None:
            steps, blocks = self._steps, int(self._steps)
            measures["forwards"] = lambda: _seconds(forwards, engine, params, state, steps) / blocks
        return measures


def _seconds(function: Callable[..., Any], *arguments: Any) -> float:
    return timed(function, *arguments)[1]


def take_turns(contestants: Sequence[TimedMethod], repeats: int) -> list[dict[str, list[float]]]:
    """Seconds of every measure of every contestant, a number per round.

    In each of the `repeats` rounds every contestant has one turn, so that slow moments of the
    machine affect all contestants alike.
    """
    seconds: list[dict[str, list[float]]] = [
        {name: [] for name in each.measures} for each in contestants
    ]
    for turn in range(repeats):
        for chosen in turn_order(len(contestants), turn):
            for name, measure in contestants[chosen].measures.items():
                seconds[chosen][name].append(measure())
    return seconds


def time_blocks(
    methods: Sequence[Method],
    target: LoadedModel,
    draft: LoadedModel | None,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    max_new_tokens: Sequence[int],
    blocks: int = 16,
    repeats: int = 5,
) -> list[BlockTimes]:
    """Times prefill, every phase and the fused block of a batch, for several methods in turns.

    Args:
      methods: from `build_method`; a method may occur twice.
      target, draft, prompts: as for `generate`.
      sampling: its max_new_tokens and eos_ids are ignored, as no row may end while timed.
      max_new_tokens: for each method; gives the capacity, and has to be so large that no row ends
        while timed.
      blocks: blocks per timed call of the fused loop, and blocks that lead to the timed state.
      repeats: rounds; medians are over rounds.
    """
    contestants = [
        TimedMethod(prepare(method, target, draft, endless_request(prompts, sampling, new)), blocks)
        for method, new in zip(methods, max_new_tokens, strict=True)
    ]
    return block_times(contestants, repeats)


def endless_request(
    prompts: Sequence[Sequence[int]], sampling: Sampling, max_new_tokens: int
) -> Request:
    """A request for timing: no row ends before `max_new_tokens`, which give the capacity."""
    endless = dataclasses.replace(sampling, max_new_tokens=max_new_tokens, eos_ids=())
    return Request(prompts=prompts, sampling=endless)


def block_times(contestants: Sequence[TimedMethod], repeats: int) -> list[BlockTimes]:
    """Medians over `repeats` rounds of contestants that measure all phases."""
    taken = take_turns(contestants, repeats)
    return [_medians(each, seconds) for each, seconds in zip(contestants, taken, strict=True)]


def _medians(contestant: TimedMethod, seconds: dict[str, list[float]]) -> BlockTimes:
    taken = seconds.get("forwards", [])
    shares = [
        1 - forwards / block for forwards, block in zip(taken, seconds["block"], strict=False)
    ]
    phases = ("prefill", "draft", "score", "verify", "commit", "block")
    return BlockTimes(
        compile=contestant.compile,
        peak_bytes=contestant.peak_bytes,
        outside=statistics.median(shares) if shares else None,
        forwards=statistics.median(taken) if taken else None,
        **{name: statistics.median(seconds[name]) for name in phases},
    )
