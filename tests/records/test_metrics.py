"""Metrics against numbers computed by hand or published."""

import math

import numpy as np
import pytest

from rsd_jax.errors import ConfigError
from rsd_jax.evaluation.floors import kept_fraction
from rsd_jax.models.config import LlamaConfig
from rsd_jax.models.llama import LlamaModel
from rsd_jax.models.shapes import NAMED_CONFIGS
from rsd_jax.records import metrics

_TARGET, _DRAFT = NAMED_CONFIGS["llama2_7b"], NAMED_CONFIGS["llama2_115m"]


def test_block_efficiency_and_rates_are_ratios_of_sums():
    assert metrics.block_efficiency(np.asarray([2, 9]), np.asarray([1, 2])) == pytest.approx(11 / 3)
    assert metrics.token_rate(np.asarray([10, 30]), np.asarray([1.0, 3.0])) == 10.0
    assert math.isnan(metrics.block_efficiency(0, 0))


def test_ratios_of_the_115m_draft_are_the_published_ones():
    assert metrics.parameter_ratio(_DRAFT, _TARGET) == pytest.approx(0.0174, abs=5e-5)
    assert metrics.read_bytes_ratio(_DRAFT, _TARGET) == pytest.approx(0.0127, abs=5e-5)
    assert metrics.parameter_ratio(None, _TARGET) == metrics.read_bytes_ratio(None, _TARGET) == 0


def test_bytes_follow_the_dtype():
    same = metrics.read_bytes_ratio(_DRAFT, _TARGET)
    mixed = metrics.read_bytes_ratio(
        _DRAFT, _TARGET, draft_dtype="bfloat16", target_dtype="float32"
    )
    assert mixed == pytest.approx(same / 2)
    assert metrics.weight_bytes(_TARGET, "bfloat16") == 2 * _TARGET.num_parameters_read
    assert metrics.block_bytes(100, 10, 4) == 140
    with pytest.raises(ConfigError, match="dtype='int3'"):
        metrics.weight_bytes(_TARGET, "int3")


def test_mbsu_and_realised_fraction():
    assert metrics.mbsu(1.0, 0.0, 0) == 1.0
    assert metrics.mbsu(3.0, 0.05, 4) == pytest.approx(2.5)
    # A block that costs exactly its passes realises all of the memory-bound speed-up.
    assert metrics.realised_fraction(1.0, 1.2, 0.05, 4) == pytest.approx(1.0)


def test_the_bootstrap_interval_has_its_coverage():
    """95 % intervals of a known ratio; the binomial bound has a false-alarm rate of 1e-6."""
    rng, true, hits, trials = np.random.default_rng(0), 2.5, 0, 200
    for trial in range(trials):
        blocks = rng.integers(10, 30, size=40)
        produced = rng.poisson(true * blocks)
        low, high = metrics.bootstrap_interval(produced, blocks, resamples=400, seed=trial)
        hits += low <= true <= high
    assert 0.85 <= hits / trials <= 1.0


def test_a_paired_interval_cancels_what_prompts_share():
    rng = np.random.default_rng(0)
    base_seconds = rng.uniform(1.0, 10.0, size=30)
    tokens = np.full(30, 64)
    low, high = metrics.bootstrap_interval(
        tokens, base_seconds / 2, base=(tokens, base_seconds), resamples=200
    )
    assert low == pytest.approx(2.0)
    assert high == pytest.approx(2.0)
    with pytest.raises(ConfigError, match="one number per prompt"):
        metrics.bootstrap_interval(tokens, base_seconds[:3])


def test_what_a_pass_with_skipped_sub_layers_reads():
    """Against counts by hand for a small shape, for attention, MLP and cache."""
    config = LlamaConfig(
        vocab_size=10,
        hidden_size=4,
        intermediate_size=6,
        num_layers=3,
        num_heads=2,
        num_kv_heads=1,
        head_dim=2,
        tied_embeddings=True,
    )
    attention, mlp = 4 * 4 + 2 * 4 * 2 + 4 * 4 + 4, 3 * 4 * 6 + 4
    whole = 3 * (attention + mlp) + 4 + 10 * 4
    assert config.num_parameters == whole
    model = LlamaModel(config)
    assert kept_fraction(model, (2, 0)) == pytest.approx(1 - 2 * attention / whole)
    assert kept_fraction(model, (0, 1)) == pytest.approx(1 - mlp / whole)
    cache = 2 * 1 * 2 * 5 * 3  # keys and values of a head of 2 numbers, 5 positions, 3 rows
    kept = 1 - (attention + cache) / (whole + 3 * cache)
    assert kept_fraction(model, (1, 0), batch=3, context=5) == pytest.approx(kept)
