"""Expected tokens per block, of every lossless verifier on the trees of one verifier's run.

The run is that of `generate`: the method's own verifier decides, so it chooses the contexts. What
the others would have produced is computed, not drawn, see `rsd_jax.verifiers.expected`. All
verifiers thus see the same trees, and none of them is measured with the noise of acceptance.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from rsd_jax.core.processes import read
from rsd_jax.core.sharding import over_rows
from rsd_jax.drafters.base import ModelParams
from rsd_jax.engine import phases
from rsd_jax.engine.generation import failed_rows, join_results, to_result
from rsd_jax.engine.job import Job, start
from rsd_jax.engine.phases import DecodeOptions, Engine
from rsd_jax.engine.results import GenerateResult
from rsd_jax.engine.rows import read_state
from rsd_jax.engine.state import DecodeState
from rsd_jax.errors import ConfigError, NonFiniteLogitsError
from rsd_jax.evaluation.root_acceptance import (
    RootAcceptance,
    Roots,
    has_optimum,
    joined,
    root_acceptance,
)
from rsd_jax.verifiers.base import Verifier
from rsd_jax.verifiers.expected import expected_tokens


@dataclasses.dataclass(frozen=True)
class ExpectedTokens:
    """What the blocks of a run were expected to produce, given their trees.

    Attributes:
      sums: f64[P] by verifier, expected tokens summed over the blocks of each prompt.
      result: what `generate` returns, with the blocks of each prompt.
      roots: None unless it was asked for.
    """

    sums: dict[str, np.ndarray]
    result: GenerateResult
    roots: RootAcceptance | None = None


def expected_run(
    job: Job, verifiers: dict[str, Verifier], *, optimum_blocks: int = 0
) -> ExpectedTokens:
    """Decodes the batches of a job as `decode` does, with the same tokens.

    One program is compiled for each engine and capacity; the host reads the device once a batch.

    Args:
      job: from `prepare`; the verifier of its method decides.
      verifiers: by name, each with `stops`; see `lossless_verifiers` of `engine.methods`.
      optimum_blocks: M, the blocks of each prompt whose roots are held against the optimum, the
        first ones. The device holds 8 M V bytes for each row meanwhile.

    Raises:
      ConfigError: a verifier has no `stops`, or `optimum_blocks` is positive and the method has no
        optimum, see `has_optimum`, or is greedy.
      NonFiniteLogitsError: as `generate`.
    """
    drafter = job.engine.drafter
    if optimum_blocks and (job.options.target_warp.greedy or not has_optimum(drafter)):
        raise ConfigError(
            f"optimum_blocks={optimum_blocks} needs children of the root that are drawn, at "
            "T > 0, i.i.d. or without replacement; set it to 0"
        )
    results, sums, roots = [], [], []
    failures: dict[int, int] = {}
    asked = tuple(verifiers.values())
    for batch in job.batches:
        state, expected, first = _run(
            job.engine, asked, optimum_blocks, job.params, start(job, batch), job.options
        )
        seen = read_state(state)
        results.append(to_result(seen, range(batch.rows)))
        sums.append(np.asarray(read(expected), np.float64)[: batch.rows])
        if first is not None:
            roots.append((read(first), results[-1].stats.blocks))
        failures |= failed_rows(seen, batch)
    result = join_results(results)
    if failures:
        raise NonFiniteLogitsError(failures, result)
    by_verifier = np.concatenate(sums).T
    found = [root_acceptance(drafter, verifiers, *each) for each in roots]
    return ExpectedTokens(
        dict(zip(verifiers, by_verifier, strict=True)), result, joined(found) if found else None
    )


@functools.partial(
    jax.jit, static_argnames=("engine", "verifiers", "optimum_blocks"), donate_argnames=("state",)
)
def _run(
    engine: Engine,
    verifiers: tuple[Verifier, ...],
    optimum_blocks: int,
    params: ModelParams,
    state: DecodeState,
    options: DecodeOptions,
) -> tuple[DecodeState, jax.Array, Roots | None]:
    """Runs the phases of blocks until every row is done.

    Returns:
      the last state; f32[B, K], sums over the blocks of each row that is not done; the roots of
      the first blocks, None if `optimum_blocks` is 0.
    """

    @over_rows(engine.layout, engine.place)
    def run(
        params: ModelParams, options: DecodeOptions, *, state: DecodeState
    ) -> tuple[DecodeState, jax.Array, Roots | None]:
        Carry = tuple[DecodeState, jax.Array, Roots | None, jax.Array]

        def step(carry: Carry) -> Carry:
            state, sums, roots, block = carry
            state = engine.place(state, within_rows=True)
            is_live = ~state.done[:, None]
            tree, state = phases.draft(engine, params, state, options)
            logits, state = phases.score(engine, params, state, tree)
            target = phases.target_laws(engine, tree, logits, options)
            expected = [
                expected_tokens(one, tree, target, eos_ids=options.eos_ids) for one in verifiers
            ]
            if roots is not None:
                roots = roots.with_block(block, tree, target)
            result = phases.verify(engine, state, tree, logits, options)
            state = phases.commit(engine, state, tree, result, options)
            sums += jnp.where(is_live, jnp.stack(expected, axis=1).astype(jnp.float32), 0.0)
            return state, sums, roots, block + 1

        rows, count = len(state.done), len(verifiers)
        roots = None
        if optimum_blocks:
            roots = Roots.empty(rows, optimum_blocks, engine.models.target.vocab_size)
        sums = jnp.zeros((rows, count), jnp.float32)
        first = (state, sums, roots, jnp.asarray(0, jnp.int32))
        return jax.lax.while_loop(lambda carry: ~carry[0].done.all(), step, first)[:3]

    return run(params, options, state=state)
