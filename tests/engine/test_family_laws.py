"""The joint law of whole outputs is the enumerated law of the target, for networks of two families.

The law comes from passes over whole sequences; decoding reads the cache and trees of nodes. False
alarms: over all runs of this file at most ALPHA = 1e-6, by the union bound. Power: with ROWS
samples a run finds, with probability 0.99, a law of 4 tokens that is off by a total variation of
TV over all prompts; asserted below.
"""

import functools

import numpy as np
import pytest

import rsd_jax
from rsd_jax.models.families import FAMILIES
from rsd_jax.models.loading import build_model
from rsd_jax.testing.statistics import power
from rsd_jax.testing.tiny_llama import mixed_params
from tests import joint_law, parity
from tests.mutants.state_mutants import TARGET_MUTANTS

ALPHA = 1e-6
NUM_TOKENS, ROWS, TV = 4, 4096, 0.13
_SIZES = dict(vocab_size=3, hidden_size=16, num_hidden_layers=2, num_attention_heads=2)
_FAMILIES = {
    # As 350m: norms behind the sums, projected embeddings.
    "opt": dict(ffn_dim=24, do_layer_norm_before=False, word_embed_proj_dim=8),
    "qwen3": dict(intermediate_size=24, num_key_value_heads=1, head_dim=8),
}
_FILTERED = {"temperature": 0.7, "top_k": 2, "top_p": 0.9}
_RUNS = {
    "sd": ("sd", {}, {}),
    "rsd_s": ("rsd_s", {"verifier": "coupling"}, _FILTERED),
    "swift": ("swift", {}, _FILTERED),
}
# A chain, a tree, and drafting with the target: what a family changes are passes over such nodes.
# Qwen3 shares Llama's network, so that one is enough.
CASES = [("opt", "sd"), ("opt", "rsd_s"), ("opt", "swift"), ("qwen3", "swift")]
FALSE_ALARM = ALPHA / (5 * len(CASES))


@functools.cache
def _pair(family: str) -> tuple[rsd_jax.LoadedModel, rsd_jax.LoadedModel]:
    """A random target and a draft that often agrees with it."""
    raw = {"model_type": family, "max_position_embeddings": 64} | _SIZES | _FAMILIES[family]
    model = build_model(FAMILIES[family].read_config(raw), dtype="float32")
    target, other = (parity.random_params(model, seed=seed) for seed in (0, 1))
    pair = (rsd_jax.LoadedModel(model, p) for p in (target, mixed_params(target, other, 0.2)))
    return tuple(pair)


@functools.cache
def _law(family: str, prompt: int, num_tokens: int, warp: tuple) -> np.ndarray:
    return joint_law.network_law(_pair(family)[0], prompt, num_tokens, **dict(warp))


def _checks(family, tokens, **warp):
    def law(prompt, num_tokens, **warp):
        return _law(family, prompt, num_tokens, tuple(sorted(warp.items())))

    return joint_law.check(tokens, false_alarm=FALSE_ALARM, law_of=law, **warp)


def _sampled(name, options, pair, **warp):
    method = joint_law.method(name, **options)
    sizes = dict(rounds=1, batch=ROWS, max_new_tokens=NUM_TOKENS)
    return joint_law.sample(method, pair, **sizes, **warp)


@pytest.mark.parametrize(("family", "run"), CASES)
def test_joint_law_is_the_autoregressive_law(family, run):
    name, options, warp = _RUNS[run]
    result = _sampled(name, options, _pair(family), **warp)
    tokens = np.asarray(result.tokens)
    checks = _checks(family, tokens, **warp)
    assert all(check.passed for check in checks), checks
    assert power(TV, len(tokens), checks[-1].degrees, false_alarm=FALSE_ALARM) >= 0.99
    assert (result.stats.blocks >= 2).mean() >= 0.2
    assert (result.stats.accepted_depths[:, 1:].sum(1) >= 1).mean() >= 0.5


@pytest.mark.parametrize("mutant", ["sibling visible", "position is the flattened index"])
def test_the_laws_see_masks_and_positions(mutant):
    target, draft = _pair("opt")
    shape = joint_law.method("rsd_c").drafter.shape
    faulty = rsd_jax.LoadedModel(TARGET_MUTANTS[mutant].target(target.model, shape), target.params)
    result = _sampled("rsd_c", {}, (faulty, draft))
    checks = _checks("opt", np.asarray(result.tokens))
    assert not all(check.passed for check in checks)
