"""Timing of compiled phases on a state in the middle of decoding."""

import dataclasses
import functools
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from rsd_jax.core.types import LanguageModel, LoadedModel
from rsd_jax.drafters.base import ModelParams
from rsd_jax.drafters.model import ModelDrafter
from rsd_jax.engine import decoding
from rsd_jax.engine import phase_programs as programs
from rsd_jax.engine.job import Job, prepare, start
from rsd_jax.engine.methods import Method
from rsd_jax.engine.phases import Engine
from rsd_jax.engine.request import Request, Sampling
from rsd_jax.engine.state import DecodeState
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
        that draft with the target, as their passes have no fixed number or width.
      outside: fraction of the fused block that is not spent in model passes: the median over pairs
        of `forwards` and `block` measured right after one another. Noise can make it negative.
        None without `forwards`.
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

    @property
    def phase_sum(self) -> float:
        """Sum of the phases, to compare with `block`."""
        return self.draft + self.score + self.verify + self.commit


def copy_bandwidth(megabytes: int, repeats: int = 10) -> float:
    """Bytes per second that the device reads plus writes when it adds 1 to an array in place."""
    array = jnp.zeros((megabytes * 2**18,), jnp.float32)
    add = jax.jit(lambda x: x + 1.0, donate_argnums=(0,))
    array = jax.block_until_ready(add(array))
    times = []
    for _ in range(repeats):
        array, seconds = timed(add, array)
        times.append(seconds)
    return 2 * array.nbytes / statistics.median(times)


def _passes(engine: Engine) -> list[tuple[LanguageModel, str, int, int]]:
    """(model, which, queries, scratch slots) of every model pass of a block."""
    shape, models = engine.drafter.shape, engine.models
    passes = [(models.target, "target", shape.num_nodes, shape.num_nodes)]
    if isinstance(engine.drafter, ModelDrafter):
        assert models.draft is not None
        for level in range(shape.depth):
            queries = shape.widths[level] + (level == 0)
            passes.append((models.draft, "draft", queries, 1 + shape.num_internal))
    return passes


@functools.partial(jax.jit, static_argnames=("engine",))
def _forwards(
    engine: Engine, params: ModelParams, state: DecodeState, blocks: jax.Array
) -> jax.Array:
    """Only the model passes of `blocks` blocks."""
    batch = state.length.shape[0]

    def one_block(_step: jax.Array, carry: jax.Array) -> jax.Array:
        for model, which, queries, slots in _passes(engine):
            cache = state.target_cache if which == "target" else state.drafter.cache
            # Tokens depend on the previous pass, so that the compiler cannot hoist or merge passes.
            tokens = jnp.broadcast_to(carry[:, None] % 2, (batch, queries))
            positions = jnp.broadcast_to(cache.length[:, None], (batch, queries))
            mask = jnp.ones((1, queries, slots), bool)
            wanted = slice(1, None) if which == "draft" and queries == 2 else slice(None)
            logits, _unused = model.forward(
                getattr(params, which),
                tokens,
                positions,
                cache,
                model.init_scratch(batch, slots),
                slot=0,
                mask=mask,
                logits_for=wanted,
            )
            carry = carry + (logits[:, -1, 0] > 0).astype(jnp.int32)
        return carry

    return jax.lax.fori_loop(0, blocks, one_block, jnp.zeros((batch,), jnp.int32))


def _compile_seconds(engine: Engine, arguments: tuple[Any, ...], program: Any) -> float:
    return _seconds(lambda: program.lower(engine, *arguments).compile())


class _Timed:
    """One method on a batch in the middle of decoding; all timed programs have run once.

    Attributes:
      compile: seconds, see `BlockTimes`.
      measures: by field of `BlockTimes`, functions that return the seconds of a prefill, phase or
        block.
    """

    def __init__(self, job: Job, blocks: int):
        engine, params, options = job.engine, job.params, job.options
        batch = job.batches[0]
        arrays = [
            jnp.asarray(a) for a in (batch.tokens, batch.prompt_length, job.seed, batch.request_ids)
        ]
        steps = jnp.asarray(blocks, jnp.int32)
        begun = start(job, batch)
        self.compile = _compile_seconds(engine, (params, *arrays), decoding.prefill)
        advance_arguments = (params, begun, options, steps)
        self.compile += _compile_seconds(engine, advance_arguments, decoding.advance)
        self._state = decoding.advance(engine, *advance_arguments)

        tree, drafted = programs.draft(engine, params, self._state, options)
        logits, scored = programs.score(engine, params, drafted, tree)
        result = programs.verify(engine, scored, tree, logits, options)

        def donated(function: Callable[[DecodeState], Any], state: DecodeState) -> float:
            return _seconds(function, jax.block_until_ready(jax.tree.map(jnp.copy, state)))

        self.measures: dict[str, Callable[[], float]] = {
            "prefill": lambda: _seconds(start, job, batch),
            "draft": lambda: _seconds(programs.draft, engine, params, self._state, options),
            "score": lambda: _seconds(programs.score, engine, params, drafted, tree),
            "verify": lambda: _seconds(programs.verify, engine, scored, tree, logits, options),
            "commit": lambda: donated(
                lambda state: programs.commit(engine, state, tree, result, options), scored
            ),
            "forwards": lambda: _seconds(_forwards, engine, params, self._state, steps) / blocks,
            "block": lambda: (
                donated(lambda s: decoding.advance(engine, params, s, options, steps), self._state)
                / blocks
            ),
        }
        if engine.drafter.needs_skips:
            del self.measures["forwards"]
        for measure in self.measures.values():
            measure()


def _seconds(function: Callable[..., Any], *arguments: Any) -> float:
    return timed(function, *arguments)[1]


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

    In each of the `repeats` rounds every method has one turn, so that slow moments of the machine
    affect all methods alike.

    Args:
      methods: from `build_method`; a method may occur twice.
      target, draft, prompts: as for `generate`.
      sampling: its max_new_tokens and eos_ids are ignored, as no row may end while timed.
      max_new_tokens: for each method; gives the capacity, and has to be so large that no row ends
        while timed.
      blocks: blocks per timed call of the fused loop, and blocks that lead to the timed state.
      repeats: rounds; medians are over rounds.
    """

    def endless(new: int) -> Sampling:
        return dataclasses.replace(sampling, max_new_tokens=new, eos_ids=())

    contestants = [
        _Timed(
            prepare(method, target, draft, Request(prompts=prompts, sampling=endless(new))), blocks
        )
        for method, new in zip(methods, max_new_tokens, strict=True)
    ]
    seconds: list[dict[str, list[float]]] = [
        {name: [] for name in each.measures} for each in contestants
    ]
    for turn in range(repeats):
        for chosen in turn_order(len(contestants), turn):
            for name, measure in contestants[chosen].measures.items():
                seconds[chosen][name].append(measure())
    return [_medians(each.compile, taken) for each, taken in zip(contestants, seconds, strict=True)]


def _medians(compile_seconds: float, seconds: dict[str, list[float]]) -> BlockTimes:
    taken = seconds.get("forwards", [])
    shares = [
        1 - forwards / block for forwards, block in zip(taken, seconds["block"], strict=False)
    ]
    phases = ("prefill", "draft", "score", "verify", "commit", "block")
    return BlockTimes(
        compile=compile_seconds,
        outside=statistics.median(shares) if shares else None,
        forwards=statistics.median(taken) if taken else None,
        **{name: statistics.median(seconds[name]) for name in phases},
    )
