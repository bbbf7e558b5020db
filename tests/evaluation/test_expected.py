"""Expected tokens of every lossless verifier, in a run and in a sweep."""

import numpy as np
import pytest

import rsd_jax
from rsd_jax.drafters import TREE_RULES
from rsd_jax.engine.job import prepare
from rsd_jax.engine.methods import lossless_verifiers
from rsd_jax.engine.request import Request
from rsd_jax.errors import ConfigError
from rsd_jax.evaluation.expected import expected_run
from rsd_jax.evaluation.root_acceptance import Roots, root_acceptance
from rsd_jax.evaluation.sweep.cells import missing_cells
from rsd_jax.evaluation.sweep.run import results_path, run_sweep
from rsd_jax.records.files import read_rows
from rsd_jax.records.optimum import Optimum
from rsd_jax.testing import hold_against_optimum, random_instances
from rsd_jax.verifiers import VERIFIERS
from tests import sweeping, tiny

_OPTIONS = {"max_new_tokens": tiny.NUM_TOKENS, "temperature": 0.9, "seed": 3}
_PROMPTS = tiny.PROMPTS * 32
_LOOKED_AT = 4


@pytest.fixture(scope="module")
def run():
    """The method, its job, and the run with all verifiers."""
    method = tiny.method("rsd_s")
    # The last batch is padded; an id that ends rows early is among the draws.
    request = Request.of(_PROMPTS, batch_size=80, eos_id=5, **_OPTIONS)
    job = prepare(method, *tiny.pair(), request)
    return method, expected_run(job, lossless_verifiers(method), optimum_blocks=_LOOKED_AT)


def test_the_tokens_are_those_of_generate(run):
    method, found = run
    plain = rsd_jax.generate(method, *tiny.pair(), _PROMPTS, batch_size=80, eos_id=5, **_OPTIONS)
    assert found.result.tokens == plain.tokens
    assert "eos" in plain.finish_reason
    np.testing.assert_array_equal(found.result.stats.blocks, plain.stats.blocks)
    np.testing.assert_array_equal(found.result.stats.produced, plain.stats.produced)


def test_what_is_expected_is_what_is_sampled(run):
    """Sampled minus expected tokens are sums of martingale differences, a row each.

    False alarm at 4 standard deviations: 6e-5. Power: a block is expected to produce 2.6 tokens and
    128 rows have 1,500 blocks, so an error of 5 % is 7 standard deviations.
    """
    _, found = run
    expected = found.sums["recursive_rejection"]
    rest = found.result.stats.produced - expected
    assert np.abs(rest.sum()) < 4 * np.sqrt((rest**2).sum())
    assert np.abs(rest).max() > 0
    per_block = {
        name: each.sum() / found.result.stats.blocks.sum() for name, each in found.sums.items()
    }
    assert set(per_block) == {"recursive_rejection", "match", "traversal", "coupling"}
    assert per_block["match"] < per_block["recursive_rejection"] < per_block["coupling"]


def test_nothing_is_above_the_optimum_below_the_root(run):
    """Given the contexts, acceptance minus the optimum has a mean of at most 0.

    False alarm at 4 standard deviations: 3e-5 per verifier. Coupling is close to the optimum.
    """
    _, found = run
    roots = found.roots
    np.testing.assert_array_equal(roots.blocks, np.minimum(found.result.stats.blocks, _LOOKED_AT))
    assert roots.blocks.min() < _LOOKED_AT, "an early end is among the rows"
    assert set(roots.acceptance) == set(found.sums)
    total = {name: each.sum() / roots.blocks.sum() for name, each in roots.acceptance.items()}
    for name, each in roots.acceptance.items():
        above = each - roots.optimum
        assert above.sum() < 4 * np.sqrt((above**2).sum()), name
    optimum = roots.optimum.sum() / roots.blocks.sum()
    assert total["match"] < total["recursive_rejection"] < total["coupling"] < 1
    assert total["coupling"] < optimum + 0.01 < 1
    part = Optimum.of(roots.acceptance, roots.optimum, roots.blocks, siblings=3)
    assert part.optimum == pytest.approx(optimum)
    assert part.distance_left["recursive_rejection"] == 1
    assert part.distance_left["coupling"] < 1 < part.distance_left["match"]
    low, high = part.distance_left_intervals["coupling"]
    assert low <= part.distance_left["coupling"] <= high


def test_a_single_draft_is_accepted_as_often_as_can_be():
    """With one draft, recursive rejection is the optimum: it accepts with probability 1 - TV."""
    request = Request.of(_PROMPTS, **_OPTIONS)
    job = prepare(tiny.method("sd"), *tiny.pair(), request)
    verifiers = {name: VERIFIERS[name]() for name in ("recursive_rejection", "coupling")}
    roots = expected_run(job, verifiers, optimum_blocks=2).roots
    for each in roots.acceptance.values():
        above = each - roots.optimum
        assert np.abs(above.sum()) < 4 * np.sqrt((above**2).sum())
    part = Optimum.of(roots.acceptance, roots.optimum, roots.blocks, siblings=1)
    assert part.optimum_blocks == 2 * len(_PROMPTS)
    assert 0.5 < part.optimum < 1


@pytest.mark.parametrize(
    ("name", "options"),
    [("spectr", {"num_drafts": 2, "length": 1}), ("rsd_c", {"branching": (2,)})],
)
def test_the_children_are_drawn_anew_by_the_methods_own_law(name, options):
    """Against the enumerated acceptance of one node.

    8192 draws: 4 standard deviations of a number between 0 and 1 are at most .022, false alarm
    6e-5. The other law of two children would be off by more than .05.
    """
    drafter = rsd_jax.build_method(name, **options).drafter
    (instance,) = random_instances(4, 1, 1, seed=1)
    p, q = instance.target[0][0], instance.draft[0][0]
    roots = Roots(*(np.tile(law.astype(np.float32), (32, 5, 1)) for law in (p, q)))
    blocks = np.full(32, 4)
    verifiers = {key: VERIFIERS[key]() for key in ("recursive_rejection", "coupling")}
    found = root_acceptance(drafter, verifiers, roots, blocks)
    assert found.blocks.sum() == 128
    rules = [TREE_RULES["independent_chains"](2, 1), TREE_RULES["constant_branching"]((2,))]
    own, other = rules if name == "spectr" else rules[::-1]
    expected, wrong = (hold_against_optimum(verifiers, rule, instance) for rule in (own, other))
    assert found.optimum.sum() / 128 == pytest.approx(expected.optimum - 1, abs=1e-6)
    for key, sums in found.acceptance.items():
        assert sums.sum() / 128 == pytest.approx(expected.verifiers[key] - 1, abs=0.022)
        assert abs(wrong.verifiers[key] - expected.verifiers[key]) > 0.05


@pytest.mark.parametrize(("name", "temperature"), [("rsd_c", 0.0), ("swift", 0.9), ("ar", 0.9)])
def test_runs_without_an_optimum(name, temperature):
    options = {"max_new_tokens": 4, "temperature": temperature, **tiny.skips(name)}
    target, draft = tiny.pair()
    draft = None if tiny.skips(name) else draft
    job = prepare(tiny.method(name), target, draft, Request.of(tiny.PROMPTS, **options))
    with pytest.raises(ConfigError, match="optimum_blocks=2 needs children"):
        expected_run(job, {}, optimum_blocks=2)


def test_verifiers_that_fit_the_drafts():
    every = {name: set(lossless_verifiers(tiny.method(name))) for name in ("sd", "spectr", "rsd_c")}
    always = {"recursive_rejection", "match", "traversal", "coupling"}
    assert every == {
        "sd": always | {"block", "k_seq"},
        "spectr": always | {"k_seq"},
        "rsd_c": always,
    }


def test_a_sweep_puts_them_into_rows(tmp_path):
    changes = {"trees": {"spectr": ("2x2",)}}
    without = sweeping.sweep(tmp_path, **changes)
    assert without == sweeping.sweep(tmp_path, expected=False, **changes)
    with pytest.raises(ConfigError, match="needs expected=True"):
        sweeping.sweep(tmp_path, optimum_blocks=1, **changes)
    sweep = sweeping.sweep(tmp_path, expected=True, optimum_blocks=1, **changes)
    assert sweep.hash_of("tiny", "number_words") != without.hash_of("tiny", "number_words")
    watcher = sweeping.Watcher()
    assert run_sweep(sweep, sweeping.load, watcher) == {"ok": 2}
    assert len(watcher.steps) == watcher.turns[0][1]
    baseline, row = read_rows(results_path(sweep))
    assert baseline.expected is None
    part = row.expected
    assert part.expected_blocks == row.decoding.blocks
    assert set(part.expected_tokens) == set(
        lossless_verifiers(sweep.methods()[row.method, row.tree, "k_seq"])
    )
    assert set(part.gains) == {"recursive_rejection", "k_seq"}
    assert part.gains["k_seq"]["k_seq"] == 1
    low, high = part.gains_intervals["recursive_rejection"]["coupling"]
    assert low <= part.gains["recursive_rejection"]["coupling"] <= high
    assert baseline.optimum is None
    assert row.optimum.optimum_blocks == row.decoding.num_prompts
    assert row.optimum.optimum_siblings == 2
    assert set(row.optimum.root_acceptance) == set(part.expected_tokens)
    assert missing_cells(sweep, [baseline, row]) == []
    with pytest.raises(ConfigError, match="expected True then, False now"):
        missing_cells(without, [row])
