"""Expected tokens of every lossless verifier, in a run and in a sweep."""

import numpy as np
import pytest

import rsd_jax
from rsd_jax.engine.job import prepare
from rsd_jax.engine.methods import lossless_verifiers
from rsd_jax.engine.request import Request
from rsd_jax.errors import ConfigError
from rsd_jax.evaluation.expected import expected_run
from rsd_jax.evaluation.sweep.cells import missing_cells
from rsd_jax.evaluation.sweep.run import results_path, run_sweep
from rsd_jax.records.files import read_rows
from tests import sweeping, tiny

_OPTIONS = {"max_new_tokens": tiny.NUM_TOKENS, "temperature": 0.9, "seed": 3}
_PROMPTS = tiny.PROMPTS * 32


@pytest.fixture(scope="module")
def run():
    """The method, its job, and the run with all verifiers."""
    method = tiny.method("rsd_s")
    # The last batch is padded; an id that ends rows early is among the draws.
    request = Request.of(_PROMPTS, batch_size=80, eos_id=5, **_OPTIONS)
    job = prepare(method, *tiny.pair(), request)
    return method, expected_run(job, lossless_verifiers(method))


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
    sweep = sweeping.sweep(tmp_path, expected=True, **changes)
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
    assert missing_cells(sweep, [baseline, row]) == []
    with pytest.raises(ConfigError, match="expected True then, False now"):
        missing_cells(without, [row])
