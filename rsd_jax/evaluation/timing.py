"""Timing of compiled phases on a state in mid-run."""

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rsd_jax import decoding
from rsd_jax.decoding import DecodeOptions, Engine
from rsd_jax.drafters.base import ModelParams
from rsd_jax.drafters.model import ModelDrafter
from rsd_jax.job import LoadedModel, prepare, start
from rsd_jax.methods import Method
from rsd_jax.state import DecodeState
from rsd_jax.types import LanguageModel


@dataclasses.dataclass(frozen=True)
class BlockTimes:
    """Seconds of one method at one batch size; medians.

    Attributes:
      compile: lowering and compiling `prefill` and `advance`.
      prefill: of the batch.
      draft, score, verify, commit: phases, each a program of its own, dispatch included.
      block: one block of the fused loop.
      forwards: the model passes of a block alone, in a loop like the fused one.
    """

    compile: float
    prefill: float
    draft: float
    score: float
    verify: float
    commit: float
    block: float
    forwards: float

    @property
    def outside(self) -> float:
        """Fraction of the fused block that is not spent in model passes."""
        return max(0.0, 1.0 - self.forwards / self.block)

    @property
    def phase_sum(self) -> float:
        """Sum of the phases, to be held beside `block`."""
        return self.draft + self.score + self.verify + self.commit


def median_seconds(run: Callable[[], Any], repeats: int) -> float:
    """Median wall time of `run`, whose result is waited for; one call before is not counted."""
    jax.block_until_ready(run())
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def copy_bandwidth(megabytes: int, repeats: int = 10) -> float:
    """Bytes per second read plus written by a device-side pass over an array, in place."""
    array = jnp.zeros((megabytes * 2**18,), jnp.float32)
    add = jax.jit(lambda x: x + 1.0, donate_argnums=(0,))
    array = jax.block_until_ready(add(array))
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        array = jax.block_until_ready(add(array))
        times.append(time.perf_counter() - begin)
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
    """The model passes of `blocks` blocks and nothing else."""
    batch = state.length.shape[0]

    def one_block(_step: jax.Array, carry: jax.Array) -> jax.Array:
        for model, which, queries, slots in _passes(engine):
            cache = state.target_cache if which == "target" else state.drafter.cache
            # Tokens depend on the pass before, so that no pass can be hoisted or merged.
            tokens = jnp.broadcast_to(carry[:, None] % 2, (batch, queries))
            positions = jnp.broadcast_to(cache.length[:, None], (batch, queries))
            mask = jnp.ones((1, queries, slots), bool)
            wanted = slice(1, None) if which == "draft" and queries == 2 else slice(None)
            logits, _unused = model.forward(
                getattr(params, which), tokens, positions, cache,
                model.init_scratch(batch, slots), slot=0, mask=mask, logits_for=wanted,
            )  # fmt: skip
            carry = carry + (logits[:, -1, 0] > 0).astype(jnp.int32)
        return carry

    return jax.lax.fori_loop(0, blocks, one_block, jnp.zeros((batch,), jnp.int32))


def _compile_seconds(engine: Engine, arguments: tuple[Any, ...], program: Any) -> float:
    begin = time.perf_counter()
    program.lower(engine, *arguments).compile()
    return time.perf_counter() - begin


def time_block(
    method: Method,
    target: LoadedModel,
    draft: LoadedModel | None,
    prompts: Sequence[Sequence[int]],
    *,
    temperature: float,
    max_new_tokens: int,
    blocks: int = 8,
    repeats: int = 5,
) -> BlockTimes:
    """Times prefill, every phase and the fused block of a batch.

    Args:
      method, target, draft, prompts, temperature: as for `generate`.
      max_new_tokens: decides the capacity; large enough that no row ends while timed.
      blocks: run per timed call of the fused loop; also how far the state is into the run.
      repeats: medians are over these.
    """
    job = prepare(
        method, target, draft, prompts, max_new_tokens=max_new_tokens, temperature=temperature
    )
    engine, params, options = job.engine, job.params, job.options
    batch = job.batches[0]
    arrays = [
        jnp.asarray(a) for a in (batch.tokens, batch.prompt_length, job.seed, batch.request_ids)
    ]
    begun = start(job, batch)
    compile_seconds = _compile_seconds(engine, (params, *arrays), decoding.prefill)
    steps = jnp.asarray(blocks, jnp.int32)
    compile_seconds += _compile_seconds(engine, (params, begun, options, steps), decoding.advance)
    prefill = median_seconds(lambda: start(job, batch), repeats)
    state = decoding.advance(engine, params, begun, options, steps)
    phases = _time_phases(engine, params, state, options, repeats)

    def fused() -> float:
        copied = jax.block_until_ready(jax.tree.map(jnp.copy, state))
        begin = time.perf_counter()
        jax.block_until_ready(decoding.advance(engine, params, copied, options, steps))
        return time.perf_counter() - begin

    def passes() -> float:
        begin = time.perf_counter()
        jax.block_until_ready(_forwards(engine, params, state, steps))
        return time.perf_counter() - begin

    fused(), passes()
    # Interleaved, so that a slow moment of the machine falls on both.
    pairs = [(fused(), passes()) for _ in range(repeats)]
    block, forwards = np.median(np.asarray(pairs), axis=0) / blocks
    return BlockTimes(
        compile=compile_seconds, prefill=prefill, block=float(block), forwards=float(forwards),
        **phases,
    )  # fmt: skip


def _time_phases(
    engine: Engine,
    params: ModelParams,
    state: DecodeState,
    options: DecodeOptions,
    repeats: int,
) -> dict[str, float]:
    """Each phase as a program of its own, fed with what the one before returned."""
    draft = jax.jit(functools.partial(decoding.draft, engine))
    score = jax.jit(functools.partial(decoding.score, engine))
    verify = jax.jit(functools.partial(decoding.verify, engine))
    commit = jax.jit(functools.partial(decoding.commit, engine), donate_argnums=(0,))
    tree, drafted = draft(params, state, options)
    logits, scored = score(params, drafted, tree)
    result = verify(scored, tree, logits, options)

    def commit_once() -> float:
        copied = jax.block_until_ready(jax.tree.map(jnp.copy, scored))
        begin = time.perf_counter()
        jax.block_until_ready(commit(copied, tree, result, options))
        return time.perf_counter() - begin

    commit_once()
    return {
        "draft": median_seconds(lambda: draft(params, state, options), repeats),
        "score": median_seconds(lambda: score(params, drafted, tree), repeats),
        "verify": median_seconds(lambda: verify(scored, tree, logits, options), repeats),
        "commit": statistics.median(commit_once() for _ in range(repeats)),
    }
