"""The state of target and draft between blocks equals passes from scratch; faults are detected.

On a tiny Llama in fp32, over ragged rows (a one-token prompt among them). For a mutant only the
faulty phase is compiled again; all other phases are shared with the correct runs.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsd_jax.drafters.base import ModelParams, Models
from rsd_jax.drafters.model import ModelDraftState
from rsd_jax.engine import decoding
from rsd_jax.engine.job import prepare
from rsd_jax.engine.request import Request
from rsd_jax.engine.state import DecodeState
from rsd_jax.testing.state_checks import (
    Block,
    Phases,
    accepts_everything,
    cache_difference,
    draft_difference,
    run_blocks,
    target_difference,
)
from tests import tiny
from tests.mutants.state_mutants import DRAFT_MUTANTS, TARGET_MUTANTS, StateMutant

MUTATED = "rsd_c"
BLOCKS = 5
WIDTH = 32  # longest prompt + 5 blocks of at most 4 tokens + a path of 3
ATOL = 1e-4
VISIBLE = 1e-2


def run(
    method: str, mutant: StateMutant | None = None, *, self_pair: bool = False, **request
) -> list[Block]:
    """Blocks of a method from the prompts, with or without a fault, at T = 1."""
    target, draft = tiny.pair()
    request = {"prompts": tiny.PROMPTS, "max_new_tokens": 48} | request
    job = prepare(tiny.method(method), target, draft, Request.of(**request))
    params = job.params.replace(draft=target.params) if self_pair else job.params
    engines, change = dict.fromkeys(("prefill", "draft", "score", "commit"), job.engine), None
    if mutant is not None:
        engines |= dict.fromkeys(mutant.phases, mutant.inject(job.engine))
        change = mutant.prepare
    (batch,) = job.batches
    seed, prompts = jax.tree.map(jnp.asarray, (job.seed, batch.prompts))
    state = decoding.prefill(engines.pop("prefill"), params, seed, prompts)
    state = change(state) if change else state
    phases = Phases.of(job.engine, **engines)
    return run_blocks(phases, params, state, job.options, BLOCKS)


def target_logits(blocks: list[Block]) -> float:
    """Blocks 1 to 4."""
    target, _ = tiny.pair()
    return max(target_difference(b, target.model, target.params, WIDTH) for b in blocks[:4])


def target_caches(blocks: list[Block]) -> float:
    target, _ = tiny.pair()
    return max(
        cache_difference(b.after.target_cache, 1, b.after, target.model, target.params)
        for b in blocks[:4]
    )


def draft_laws(blocks: list[Block]) -> float:
    """Blocks 3 and later."""
    _, draft = tiny.pair()
    return max(draft_difference(b, draft.model, draft.params, WIDTH) for b in blocks[2:])


@pytest.mark.parametrize("method", tiny.DRAFTING)
def test_state_equals_passes_from_scratch(method):
    _, draft = tiny.pair()
    blocks = run(method)
    lengths = np.asarray([b.after.length for b in blocks])
    assert len(set(lengths[-1] - lengths[0])) > 1, "rows advance on their own"
    assert target_logits(blocks) < ATOL
    assert target_caches(blocks) < ATOL
    assert draft_laws(blocks) < ATOL
    for b in blocks:
        cache = _caught_up(method, b.after).cache
        assert cache_difference(cache, 2, b.after, draft.model, draft.params) < ATOL


def _caught_up(method: str, state: DecodeState) -> ModelDraftState:
    """The drafter's state as its next draft begins: with what a merged chain has added."""
    target, draft = tiny.pair()
    drafter = getattr(tiny.method(method).drafter, "drawn", None)
    if drafter is None:
        return state.drafter
    models, params = Models(target.model, draft.model), ModelParams(target.params, draft.params)
    return drafter.catch_up(models, params, state.drafter, state.context(), 3)


@pytest.mark.parametrize("method", tiny.WHOLE_TREES)
def test_a_draft_that_is_the_target_is_accepted_whole(method):
    assert accepts_everything(run(method, self_pair=True))


def test_a_draft_takes_in_accepted_nodes_of_a_merged_chain():
    """Texts that repeat themselves, so that blocks go further than the draft has drawn."""
    _, draft = tiny.pair()
    rng = np.random.default_rng(0)
    prompts = [rng.integers(1, 20, 6).tolist() * 3 for _ in range(3)]
    blocks = run("rsd_s+3", prompts=prompts, temperature=0.0)
    depth = tiny.method("rsd_s+3").drafter.drawn.shape.depth
    further = [(np.asarray(b.result.num_accepted) > depth).any() for b in blocks]
    assert any(further[:-1])
    width = 18 + BLOCKS * 4 + 3
    assert max(draft_difference(b, draft.model, draft.params, width) for b in blocks) < ATOL


@pytest.mark.parametrize("name", TARGET_MUTANTS)
def test_faults_in_the_target_state_are_seen(name):
    mutant = TARGET_MUTANTS[name]
    blocks = run(MUTATED, mutant)
    assert target_logits(blocks) > VISIBLE
    assert "logits" in mutant.caught_by
    if "cache" in mutant.caught_by:
        assert target_caches(blocks) > VISIBLE


@pytest.mark.parametrize("name", DRAFT_MUTANTS)
def test_faults_in_the_draft_state_are_seen(name):
    mutant = DRAFT_MUTANTS[name]
    assert set(mutant.caught_by) == {"laws", "self-pair"}
    assert draft_laws(run(MUTATED, mutant)) > VISIBLE
    assert not accepts_everything(run(MUTATED, mutant, self_pair=True))
