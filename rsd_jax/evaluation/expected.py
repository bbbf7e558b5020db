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

from rsd_jax.core.sharding import over_rows
from rsd_jax.drafters.base import ModelParams
from rsd_jax.engine import phases
from rsd_jax.engine.generation import failed_rows, join_results, read_state, to_result
from rsd_jax.engine.job import Job, start
from rsd_jax.engine.phases import DecodeOptions, Engine
from rsd_jax.engine.results import GenerateResult
from rsd_jax.engine.state import DecodeState
from rsd_jax.errors import NonFiniteLogitsError
from rsd_jax.verifiers.base import Verifier
from rsd_jax.verifiers.expected import expected_tokens


@dataclasses.dataclass(frozen=True)
class ExpectedTokens:
    """What the blocks of a run were expected to produce, given their trees.

    Attributes:
      sums: f64[P] by verifier, expected tokens summed over the blocks of each prompt.
      result: what `generate` returns, with the blocks of each prompt.
    """

    sums: dict[str, np.ndarray]
    result: GenerateResult


def expected_run(job: Job, verifiers: dict[str, Verifier]) -> ExpectedTokens:
    """Decodes the batches of a job as `decode` does, with the same tokens.

    One program is compiled for each engine and capacity; the host reads the device once a batch.

    Args:
      job: from `prepare`; the verifier of its method decides.
      verifiers: by name, each with `stops`; see `lossless_verifiers` of `engine.methods`.

    Raises:
      ConfigError: a verifier has no `stops`.
      NonFiniteLogitsError: as `generate`.
    """
    results, sums = [], []
    failures: dict[int, int] = {}
    asked = tuple(verifiers.values())
    for batch in job.batches:
        state, expected = _run(job.engine, asked, job.params, start(job, batch), job.options)
        read = read_state(state)
        results.append(to_result(read, batch.rows))
        sums.append(np.asarray(jax.device_get(expected), np.float64)[: batch.rows])
        failures |= failed_rows(read, batch)
    result = join_results(results)
    if failures:
        raise NonFiniteLogitsError(failures, result)
    by_verifier = np.concatenate(sums).T
    return ExpectedTokens(dict(zip(verifiers, by_verifier, strict=True)), result)


@functools.partial(jax.jit, static_argnames=("engine", "verifiers"), donate_argnames=("state",))
def _run(
    engine: Engine,
    verifiers: tuple[Verifier, ...],
    params: ModelParams,
    state: DecodeState,
    options: DecodeOptions,
) -> tuple[DecodeState, jax.Array]:
    """Runs the phases of blocks until every row is done.

    Returns:
      the last state; f32[B, len(verifiers)], sums over the blocks of each row that is not done.
    """

    @over_rows(engine.layout)
    def run(
        params: ModelParams, options: DecodeOptions, *, state: DecodeState
    ) -> tuple[DecodeState, jax.Array]:
        def step(carry: tuple[DecodeState, jax.Array]) -> tuple[DecodeState, jax.Array]:
            state, sums = carry
            if engine.layout is not None:
                state = engine.layout.place_buffers(state, within_rows=True)
            is_live = ~state.done[:, None]
            tree, state = phases.draft(engine, params, state, options)
            logits, state = phases.score(engine, params, state, tree)
            target = phases.target_laws(engine, tree, logits, options)
            expected = [
                expected_tokens(one, tree, target, eos_ids=options.eos_ids) for one in verifiers
            ]
            result = phases.verify(engine, state, tree, logits, options)
            state = phases.commit(engine, state, tree, result, options)
            sums += jnp.where(is_live, jnp.stack(expected, axis=1).astype(jnp.float32), 0.0)
            return state, sums

        sums = jnp.zeros((len(state.done), len(verifiers)), jnp.float32)
        return jax.lax.while_loop(lambda carry: ~carry[0].done.all(), step, (state, sums))

    return run(params, options, state=state)
