"""transformers as a peer gets the weights that our methods get."""

import dataclasses

import numpy as np
import pytest

from rsd_jax.core.types import LoadedModel
from rsd_jax.core.vocabulary import on_shared_tokens
from rsd_jax.engine.request import Sampling
from rsd_jax.evaluation.peers import TransformersPeer
from rsd_jax.models.loading import build_model
from rsd_jax.models.token_map import on_mapped_tokens
from rsd_jax.testing.tiny_llama import TINY_CONFIG
from tests import joint_law, parity


def _loaded(config, seed):
    model = build_model(config, dtype="float32")
    return LoadedModel(model, parity.random_params(model, seed=seed))


def test_loaded_models_become_peers():
    import torch

    target, draft = (_loaded(TINY_CONFIG, seed) for seed in (0, 1))
    peers = TransformersPeer.of_models(target, draft)
    tokens = np.asarray([[1, 5, 9, 2, 7]])
    for loaded, theirs in ((target, peers.target), (draft, peers.draft)):
        with torch.inference_mode():
            logits = theirs(torch.tensor(tokens)).logits.numpy()
        np.testing.assert_allclose(
            parity.score(loaded.model, loaded.params, tokens), logits, rtol=1e-4, atol=1e-4
        )
    sampling = Sampling(max_new_tokens=3, temperature=0.0)
    for length in (0, 2):
        assert peers.peer(sampling, draft_length=length).decode(tokens.tolist()) == 3


def _mapped():
    """A draft of 8 tokens, one of which stands for none, with the ids of a target of more."""
    small = _loaded(dataclasses.replace(TINY_CONFIG, vocab_size=8), 1)
    ids = np.full(TINY_CONFIG.vocab_size, -1, np.int32)
    ids[3:10] = range(1, 8)
    return on_mapped_tokens(small, ids)


def _padded():
    """A draft whose table ends before its target's."""
    size = TINY_CONFIG.vocab_size
    small = _loaded(dataclasses.replace(TINY_CONFIG, vocab_size=size - 3), 1)
    return small, LoadedModel(on_shared_tokens(small.model, size), small.params)


@pytest.mark.parametrize("kind", ["mapped", "padded"])
def test_a_draft_with_a_table_of_its_own_assists_with_the_ids_of_its_target(kind):
    import torch

    target = _loaded(TINY_CONFIG, 0)
    given, ours = _padded() if kind == "padded" else (_mapped(),) * 2
    peers = TransformersPeer.of_models(target, given)
    tokens = np.asarray([[1, 5, 9, 2, TINY_CONFIG.vocab_size - 1]])  # some that the draft lacks
    with torch.inference_mode():
        logits = peers.draft(torch.tensor(tokens)).logits.numpy()
    expected = parity.score(ours.model, ours.params, tokens)
    assert np.isneginf(expected).any()
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
    for temperature in (0.0, 1.0):
        sampling = Sampling(max_new_tokens=6, temperature=temperature)
        assert peers.peer(sampling, draft_length=2).decode(tokens.tolist()) == 6


def test_what_is_no_network_does_not_assist():
    target = _loaded(TINY_CONFIG, 0)
    table, _ = joint_law.pair()
    assert TransformersPeer.of_models(target, table).draft is None
    assert TransformersPeer.of_models(target, None).draft is None
