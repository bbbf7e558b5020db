"""Runs of a job with numbers computed on every block's tree, beside decoding.

The run is that of `generate`: the method's own verifier decides, so it chooses the contexts. What
is measured on each tree is computed on the device, and summed over the blocks of each row.
"""

import dataclasses
import functools
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from rsd_jax.core.processes import read
from rsd_jax.core.sharding import over_rows
from rsd_jax.core.tree import DraftTree
from rsd_jax.drafters.base import ModelParams
from rsd_jax.engine import phases
from rsd_jax.engine.generation import failed_rows, join_results, to_result
from rsd_jax.engine.job import Job, start
from rsd_jax.engine.phases import DecodeOptions, Engine
from rsd_jax.engine.results import GenerateResult
from rsd_jax.engine.rows import read_state
from rsd_jax.engine.state import DecodeState
from rsd_jax.errors import NonFiniteLogitsError
from rsd_jax.evaluation.root_acceptance import Roots
from rsd_jax.verifiers.base import TargetLaws


class Measure(Protocol):
    """What is computed on the trees of a batch; hashable, since a program is compiled for it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the numbers of one row."""
        ...

    def __call__(self, tree: DraftTree, target: TargetLaws, options: DecodeOptions) -> jax.Array:
        """f32[B, *shape] of one block, all with leading B."""
        ...


@dataclasses.dataclass(frozen=True)
class Observed:
    """What was measured.

    Attributes:
      sums: f64[P, ...] for each measure, summed over the blocks of each prompt.
      result: what `generate` returns, with the blocks of each prompt.
      roots: for each batch its `Roots` and the blocks of its rows, if they were asked for.
    """

    sums: list[np.ndarray]
    result: GenerateResult
    roots: list[tuple[Roots, np.ndarray]]


def observed_run(job: Job, measures: tuple[Measure, ...], *, root_blocks: int = 0) -> Observed:
    """Decodes the batches of a job as `decode` does, with the same tokens.

    One program is compiled for each engine and capacity; the host reads the device once a batch.

    Args:
      job: from `prepare`; the verifier of its method decides.
      measures: what is summed.
      root_blocks: M, the first blocks of each prompt whose root's laws are kept. The device holds
        8 M V bytes for each row meanwhile.

    Raises:
      NonFiniteLogitsError: as `generate`.
    """
    results, sums, roots = [], [], []
    failures: dict[int, int] = {}
    for batch in job.batches:
        state, found, first = _run(
            job.engine, measures, root_blocks, job.params, start(job, batch), job.options
        )
        seen = read_state(state)
        results.append(to_result(seen, range(batch.rows)))
        sums.append([np.asarray(each, np.float64)[: batch.rows] for each in read(found)])
        if first is not None:
            roots.append((read(first), results[-1].stats.blocks))
        failures |= failed_rows(seen, batch)
    result = join_results(results)
    if failures:
        raise NonFiniteLogitsError(failures, result)
    return Observed([np.concatenate(each) for each in zip(*sums, strict=True)], result, roots)


@functools.partial(
    jax.jit, static_argnames=("engine", "measures", "root_blocks"), donate_argnames=("state",)
)
def _run(
    engine: Engine,
    measures: tuple[Measure, ...],
    root_blocks: int,
    params: ModelParams,
    state: DecodeState,
    options: DecodeOptions,
) -> tuple[DecodeState, tuple[jax.Array, ...], Roots | None]:
    """Runs the phases of blocks until every row is done.

    Returns:
      the last state; for each measure f32[B, ...], sums over the blocks of each row that is not
      done; the roots of the first blocks, None if `root_blocks` is 0.
    """

    @over_rows(engine.layout, engine.place)
    def run(
        params: ModelParams, options: DecodeOptions, *, state: DecodeState
    ) -> tuple[DecodeState, tuple[jax.Array, ...], Roots | None]:
        Carry = tuple[DecodeState, tuple[jax.Array, ...], Roots | None, jax.Array]

        def step(carry: Carry) -> Carry:
            state, sums, roots, block = carry
            state = engine.place(state, within_rows=True)
            is_live = ~state.done
            tree, state = phases.draft(engine, params, state, options)
            logits, state = phases.score(engine, params, state, tree)
            target = phases.target_laws(engine, tree, logits, options)
            found = [measure(tree, target, options) for measure in measures]
            if roots is not None:
                roots = roots.with_block(block, tree, target)
            result = phases.verify(engine, state, tree, logits, options)
            state = phases.commit(engine, state, tree, result, options)
            sums = tuple(map(functools.partial(_add, is_live), sums, found))
            return state, sums, roots, block + 1

        rows, roots = len(state.done), None
        if root_blocks:
            roots = Roots.empty(rows, root_blocks, engine.models.target.vocab_size)
        sums = tuple(jnp.zeros((rows, *measure.shape), jnp.float32) for measure in measures)
        first = (state, sums, roots, jnp.asarray(0, jnp.int32))
        return jax.lax.while_loop(lambda carry: ~carry[0].done.all(), step, first)[:3]

    return run(params, options, state=state)


def _add(is_live: jax.Array, total: jax.Array, new: jax.Array) -> jax.Array:
    """The total f32[B, ...] with the numbers of the rows that are not done."""
    is_live = jnp.expand_dims(is_live, range(1, new.ndim))
    return total + jnp.where(is_live, new.astype(jnp.float32), 0.0)
