"""transformers as a peer gets the weights that our methods get."""

import dataclasses

import numpy as np

from rsd_jax.core.types import LoadedModel
from rsd_jax.engine.request import Sampling
from rsd_jax.evaluation.peers import TransformersPeer
from rsd_jax.models.loading import build_model
from rsd_jax.models.token_map import on_mapped_tokens
from rsd_jax.testing.tiny_llama import TINY_CONFIG
from tests import parity


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


def test_a_draft_with_ids_of_its_own_does_not_assist():
    target = _loaded(TINY_CONFIG, 0)
    small = _loaded(dataclasses.replace(TINY_CONFIG, vocab_size=8), 1)
    ids = np.full(TINY_CONFIG.vocab_size, -1, np.int32)
    ids[:7] = range(1, 8)
    assert TransformersPeer.of_models(target, on_mapped_tokens(small, ids)).draft is None
    assert TransformersPeer.of_models(target, small).draft is None
    assert TransformersPeer.of_models(target, None).draft is None
