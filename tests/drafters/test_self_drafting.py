"""Drafting with the target itself: its state, the widths of the target pass, skip sets as data.

On tiny Llamas in fp32. The targets' caches equal the caches of the whole model, the drafts' laws
equal draft-mode passes from scratch, and faults in either are detected.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rsd_jax
from rsd_jax.core import skips
from rsd_jax.core.sampling import row_keys
from rsd_jax.core.tree import BackboneLaws, DraftTree, SiblingLaw
from rsd_jax.core.warp import make_warp
from rsd_jax.drafters.backbone import BackboneRule, grow_backbone
from rsd_jax.drafters.swift import SwiftDrafter
from rsd_jax.engine import decoding
from rsd_jax.engine.job import prepare, start
from rsd_jax.engine.request import Request
from rsd_jax.engine.target_pass import score_tree
from rsd_jax.models.llama import LlamaModel
from rsd_jax.testing.candidate_trees import CandidateTrees, table_score_step
from rsd_jax.testing.instances import log_tables, random_instances
from rsd_jax.testing.state_checks import (
    Phases,
    accepts_everything,
    cache_difference,
    run_blocks,
    self_draft_difference,
    target_difference,
)
from rsd_jax.testing.table_model import TableModel
from rsd_jax.testing.tiny_llama import TINY_CONFIG, tiny_params
from rsd_jax.testing.validation import validate_tree
from tests import joint_law, tiny
from tests.compile_meter import compilations
from tests.mutants.self_draft_mutants import SELF_DRAFT_MUTANTS, SELF_TREE_MUTANTS
from tests.mutants.state_mutants import TARGET_MUTANTS

BLOCKS = 5
WIDTH = 40  # longest prompt + 5 blocks of at most 4 tokens + a path of 3
ATOL = 1e-4
VISIBLE = 1e-2
SKIPS = np.asarray([[False, True], [True, False]])
EMPTY = skips.empty_set(2)


# Most of their draws are behind the root: a chain that never stops early, a tree of three levels.
LONG = {
    "swift": rsd_jax.build_method("swift", **tiny.METHODS["swift"] | {"stop_below": 0.0}),
    "self_rsd_s": rsd_jax.build_method("self_rsd_s", width=3, length=3),
}
MUTANTS = {"swift": SELF_DRAFT_MUTANTS, "self_rsd_s": SELF_TREE_MUTANTS}


def run(method, skip_set=SKIPS, mutant=None, temperature: float = 1.0):
    target, _ = tiny.pair()
    method = tiny.method(method) if isinstance(method, str) else method
    options = {"max_new_tokens": 48, "temperature": temperature, "skips": skip_set}
    job = prepare(method, target, None, Request.of(tiny.PROMPTS, **options))
    faulty = {} if mutant is None else dict.fromkeys(mutant.phases, mutant.inject(job.engine))
    state = start(job, job.batches[0])
    return run_blocks(Phases.of(job.engine, **faulty), job.params, state, job.options, BLOCKS), job


def target_logits(blocks, job) -> float:
    model, params = job.engine.models.target, job.params.target
    return max(target_difference(b, model, params, WIDTH) for b in blocks[:4])


def target_caches(blocks, job) -> float:
    model, params = job.engine.models.target, job.params.target
    return max(cache_difference(b.after.target_cache, 1, b.after, model, params) for b in blocks)


def draft_laws(blocks, job) -> float:
    """Blocks 3 and later."""
    return max(self_draft_difference(b, tiny.pair()[0].model, job.params) for b in blocks[2:])


@pytest.mark.parametrize("name", tiny.SELF_DRAFTING)
def test_state_equals_passes_from_scratch(name):
    blocks, job = run(name)
    assert target_logits(blocks, job) < ATOL
    assert target_caches(blocks, job) < ATOL
    assert draft_laws(blocks, job) < ATOL
    for block in blocks:
        validate_tree(block.tree, 32)
    sizes = np.asarray([block.tree.valid.sum(axis=1) for block in blocks])
    if name == "swift":
        assert len(np.unique(sizes)) > 3
        assert {int(np.searchsorted((4, 8, 16), size)) for size in sizes.max(axis=1)} != {0}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("name", tiny.SELF_DRAFTING)
def test_an_empty_skip_set_is_accepted_whole(name, temperature):
    """In swift's trees every token of the chain is accepted, and none of its siblings."""
    blocks, _ = run(name, EMPTY, temperature=temperature)
    assert accepts_everything(blocks)
    assert not accepts_everything(run(name, temperature=temperature)[0])
    stats = blocks[-1].after.stats
    accepted = np.asarray(stats.accepted_ranks)
    if name == "swift":
        np.testing.assert_array_equal(accepted[:, 0], stats.drafted)
        assert not accepted[:, 1:].any()
        assert len(set(np.asarray(stats.drafted).tolist())) > 1


@pytest.mark.parametrize(
    ("method", "name"), [(method, name) for method, mutants in MUTANTS.items() for name in mutants]
)
def test_faults_in_the_draft_are_seen(method, name):
    """These faults only lose acceptance; the laws and the self-pair test detect them."""
    mutant = MUTANTS[method][name]
    assert "laws" in mutant.caught_by
    assert draft_laws(*run(LONG[method], mutant=mutant)) > VISIBLE
    whole = accepts_everything(run(LONG[method], EMPTY, mutant)[0])
    assert whole == ("self-pair" not in mutant.caught_by)


@pytest.mark.parametrize("method", LONG.values(), ids=LONG)
def test_clean_code_passes_the_same_checks(method):
    assert draft_laws(*run(method)) < ATOL
    assert accepts_everything(run(method, EMPTY)[0])


def test_draft_mode_keys_left_in_the_targets_cache_are_seen():
    blocks, job = run("swift", mutant=TARGET_MUTANTS["draft-mode keys and values committed"])
    assert target_logits(blocks, job) > VISIBLE
    assert target_caches(blocks, job) > VISIBLE


# Skip sets are data.


def five_layers() -> rsd_jax.LoadedModel:
    config = dataclasses.replace(TINY_CONFIG, num_layers=5)
    return rsd_jax.LoadedModel(LlamaModel(config), tiny_params(3, config))


def test_another_skip_set_is_the_same_program():
    target, rng = five_layers(), np.random.default_rng(0)
    method, options = tiny.method("swift"), {"max_new_tokens": 8, "temperature": 0.0}

    def decode(skip_set=None):
        return rsd_jax.generate(method, target, None, tiny.PROMPTS, skips=skip_set, **options)

    first = decode()
    accepted = [first.stats.accepted_ranks.sum()]
    with compilations() as programs:
        for _ in range(4):
            result = decode(skips.from_switches(rng.random(6) < 0.5))
            assert result.tokens == first.tokens
            accepted.append(result.stats.accepted_ranks.sum())
        result = decode(skips.empty_set(5))
        assert result.stats.accepted_ranks.sum() == result.stats.drafted.sum()
    assert not programs
    assert len(set(accepted)) > 1, "the set is not used"


def test_a_set_may_change_between_blocks():
    """The output law does not depend on the skip set; at T = 0 neither do the tokens."""
    target = five_layers()
    job = prepare(
        tiny.method("swift"),
        target,
        None,
        Request.of(tiny.PROMPTS, max_new_tokens=16, temperature=0.0),
    )
    np.testing.assert_array_equal(job.params.skips, skips.start_set(5))
    state, rng = start(job, job.batches[0]), np.random.default_rng(1)
    while not np.asarray(state.done).all():
        chosen = jnp.asarray(skips.from_switches(rng.random(6) < 0.5))
        params = job.params.replace(skips=chosen)
        state = decoding.advance(
            job.engine, params, state, job.options, np.int32(1), decoding.UNLIMITED
        )
    greedy = rsd_jax.generate(
        rsd_jax.build_method("ar"), target, None, tiny.PROMPTS, max_new_tokens=16, temperature=0.0
    )
    for row, tokens in enumerate(greedy.tokens):
        first = len(tiny.PROMPTS[row])
        assert state.tokens[row, first : int(state.end[row])].tolist() == tokens


def test_skip_sets():
    np.testing.assert_array_equal(np.flatnonzero(skips.start_set(6).all(axis=1)), [1, 3])
    np.testing.assert_array_equal(np.flatnonzero(skips.start_set(7).any(axis=1)), [1, 3, 5])
    assert skips.num_switches(40) == 76
    assert [skips.num_skipped(40, r) for r in (0.0, 0.45, 0.999)] == [0, 34, 75]
    switches = np.random.default_rng(0).random(76) < 0.5
    chosen = skips.from_switches(switches)
    assert chosen.shape == (40, 2)
    assert not chosen[[0, -1]].any()
    np.testing.assert_array_equal(skips.to_switches(chosen), switches)
    for ratio in (-0.1, 1.0, float("nan"), "half"):
        with pytest.raises(rsd_jax.ConfigError, match=r"skip ratio .* must lie in \[0, 1\)"):
            skips.num_skipped(40, ratio)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "a model of 2 layers.*at least 3 layers"),
        ({"skips": skips.empty_set(3)}, r"skips must be bool\[2, 2\].*got bool\[3, 2\]"),
        ({"skips": np.zeros((2, 2))}, r"skips must be bool.*got float64"),
        ({"method": rsd_jax.build_method("ar"), "skips": EMPTY}, "'ar' does not draft with its"),
    ],
)
def test_bad_sets(changes, message):
    target, _ = joint_law.pair()
    arguments = {
        "method": rsd_jax.build_method("swift"),
        "target": target,
        "draft": None,
        "prompts": [[1]],
        "max_new_tokens": 4,
    }
    with pytest.raises(rsd_jax.ConfigError, match=message):
        rsd_jax.generate(**arguments | changes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 0}, "length=0"),
        ({"stop_below": 1.5}, "stop_below=1.5"),
        ({"confidences": (0.5, 0.8, 0.9)}, "must descend"),
        ({"counts": (1, 2)}, r"counts=\(1, 2\).*one per class: 4"),
        ({"greedy_counts": (0, 1, 2, 3)}, r"greedy_counts=\(0, 1, 2, 3\)"),
        ({"widths": (16, 8)}, r"widths=\(16, 8\) must be ascending"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(rsd_jax.ConfigError, match=message):
        rsd_jax.build_method("swift", **options)


# The end of the draft, and the widths of the target pass.


def test_the_draft_ends_when_every_row_has_stopped():
    """A finished row does not extend drafting."""
    (instance,) = random_instances(3, 4, 1, seed=5)
    rule = CandidateTrees(4, 0.5, (0.7, 0.6), (1, 2, 3), (1, 2, 3))
    score_step = table_score_step(log_tables(instance.draft))

    @jax.jit
    def grow(keys, active):
        def counting(step, tokens, carry):
            logits, prefix = score_step(step, tokens, carry[0])
            return logits, (prefix, carry[1] + 1)

        root = jnp.zeros(active.shape, jnp.int32)
        return grow_backbone(
            rule, counting, (root, jnp.asarray(0)), root, active, warp=make_warp(1.0), keys=keys
        )

    steps = set()
    for seed in range(12):
        keys, active = row_keys(seed, jnp.arange(3)), jnp.asarray([True, True, seed % 2 == 0])
        tree, (_, count) = grow(keys, active)
        depth = np.where(tree.valid, rule.shape.depths, 0).max(axis=1)
        assert int(count) == depth.max()
        assert (depth > 0).tolist() == active.tolist()
        steps.add(int(count))
    assert len(steps) > 1


class _Narrow(TableModel):
    """Records the number of tokens of each pass."""

    def forward(self, params, tokens, *args, **options):
        logits, scratch = super().forward(params, tokens, *args, **options)
        return jnp.full_like(logits, tokens.shape[1]), scratch


@pytest.mark.parametrize(("sizes", "width"), [((1, 2), 2), ((3, 1), 4), ((4, 4), 4), ((2, 5), 8)])
def test_the_target_pass_is_as_narrow_as_the_largest_tree_allows(sizes, width):
    model, rule = _Narrow(), BackboneRule(2, 0.4, (0.7, 0.5), (1, 2, 3), (1, 2, 3))
    shape, batch = rule.shape, len(sizes)
    tree = DraftTree(
        tokens=jnp.zeros((batch, 7), jnp.int32),
        parents=jnp.broadcast_to(jnp.asarray(shape.static_parents)[None], (batch, 7)),
        valid=jnp.asarray(np.arange(7)[None] < np.asarray(sizes)[:, None]),
        scores=jnp.zeros((batch, 7), jnp.float32),
        laws=BackboneLaws(logprobs=jnp.zeros((batch, 2, 3), jnp.float32), shape=shape),
        finite=jnp.ones((batch,), bool),
        shape=shape,
        siblings=SiblingLaw.WITHOUT_REPLACEMENT,
    )
    logits, _ = score_tree(
        model,
        model.init_params(jax.random.key(0)),
        tree,
        jnp.ones((batch,), jnp.int32),
        model.init_cache(batch, 8),
        model.init_scratch(batch, 8),
        (2, 4, 8),
    )
    assert logits.shape == (batch, 8, 3)
    assert np.unique(logits[:, :width]).tolist() == [width]
    assert not np.asarray(logits[:, width:]).any()


def test_published_settings():
    """At most 131 nodes: all widths are used, and the last holds the largest tree."""
    drafter = rsd_jax.build_method("swift").drafter
    assert drafter == SwiftDrafter(BackboneRule(25))
    assert drafter.rule.max_nodes == 1 + 24 * 5 + 10
    assert drafter.pass_widths == (8, 16, 32, 64, 136)
    assert rsd_jax.build_method("swift", length=2).drafter.pass_widths == (8, 16)
    assert rsd_jax.build_method("swift", widths=(4, 8)).drafter.pass_widths == (4, 8, 131)
    assert rsd_jax.build_method("swift").tree == "25"


def test_every_width_gives_the_same_tokens():
    """Also for small vocabularies, in which a node has at most V siblings."""
    target, _ = joint_law.pair()
    rule = {k: v for k, v in joint_law.METHODS["swift"].items() if k != "widths"}
    prompts = [list(prompt) for prompt in joint_law.PROMPTS]

    def decode(*widths: int) -> list[list[int]]:
        method = rsd_jax.build_method("swift", **rule, widths=widths)
        options = {"max_new_tokens": 24} | joint_law.skips(method)
        return rsd_jax.generate(method, target, None, prompts, **options).tokens

    assert decode(2, 4, 8) == decode(8) == decode(3)


def test_siblings_and_stop_follow_the_confidence_at_temperature_1():
    """Confidence does not depend on the warp; T = 0 uses `greedy_counts`."""
    rule = BackboneRule(4, 0.8, (0.95, 0.8, 0.5), (1, 2, 3, 4), (2, 3, 4, 5))
    firsts = (0.99, 0.9, 0.6, 0.4)  # one of each class; the others share the rest
    logits = np.log([[p, *[(1 - p) / 7] * 7] for p in firsts])
    logits = jnp.asarray(logits, jnp.float32)
    none = jnp.zeros(logits.shape, jnp.float32)  # the likeliest token comes first
    for warp, noise, counts in (
        (make_warp(1.0), none, (1, 2, 3, 4)),
        (make_warp(0.3), none, (1, 2, 3, 4)),
        (make_warp(2.0), none, (1, 2, 3, 4)),
        (make_warp(0.0), None, (2, 3, 4, 5)),
    ):
        level = rule.expand(logits, warp, noise)
        assert level.tokens[:, 0].tolist() == [0] * 4
        assert level.valid.sum(axis=1).tolist() == list(counts)
        assert level.confident.tolist() == [True, True, False, False]
    # Filters leave fewer tokens than asked for, and do not touch the confidence.
    level = rule.expand(logits, make_warp(1.0, 2), none)
    assert level.valid.sum(axis=1).tolist()[:2] == [1, 2]
    alone = rule.expand(logits, make_warp(1.0, None, 0.3), none)
    assert alone.valid.sum(axis=1).tolist() == [1] * 4
    assert alone.confident.tolist() == [True, True, False, False]
