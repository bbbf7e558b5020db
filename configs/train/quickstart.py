"""The quickstart pair: a 9.8M target and a 0.9M draft on CPython's library and two small tasks.

Source: shapes and budget chosen for two CPU cores; the draft is first trained on the text, then
distilled with the forward KL divergence to the frozen target (Hinton et al. 2015).
Command: python launch/train.py --config=configs/train/quickstart.py --stage=all
Cost and expected numbers: docs/training.md.
"""

import dataclasses
from typing import Any

from ml_collections import ConfigDict

from rsd_jax.distillation.recipe import Recipe


def _model(**shape: int) -> ConfigDict:
    return ConfigDict(
        dict(vocab_size=2048, head_dim=40, max_positions=2048, tied_embeddings=True, **shape)
    )


def _recipe(**values: Any) -> ConfigDict:
    return ConfigDict(dataclasses.asdict(Recipe(**values)))


def get_config() -> ConfigDict:
    """Sizes and recipes of every stage; a recipe's keys are those of `distillation.Recipe`."""
    config = ConfigDict()
    config.workdir = "runs/quickstart"
    config.vocab_size = 2048
    config.corpus_root = ""  # empty: the standard library of the running interpreter
    # Share of each source in the windows of a batch; 0 leaves a source out.
    config.mixture = dict(library=0.65, number_words=0.15, docstrings=0.2)
    config.number_words = dict(train=60_000, heldout=500)  # examples that are written
    config.tokenizer_documents = 500  # per task; more would give long compounds tokens of their own
    config.target = dict(
        model=_model(
            hidden_size=320, intermediate_size=864, num_layers=8, num_heads=8, num_kv_heads=4
        ),
        recipe=_recipe(
            objective="cross_entropy",
            optimizer="muon",
            steps=4000,
            batch_size=8,
            window=256,
            learning_rate=3e-3,
            warmup_steps=100,
            schedule="wsd",
            compute_dtype="bfloat16",
            checkpoint_every=100,
        ),
    )
    draft = _model(
        hidden_size=160, intermediate_size=432, num_layers=2, num_heads=4, num_kv_heads=2
    )
    config.draft_warm_start = dict(
        model=draft,
        recipe=_recipe(
            objective="cross_entropy",
            optimizer="muon",
            steps=1000,
            batch_size=8,
            window=256,
            learning_rate=4e-3,
            checkpoint_every=500,
        ),
    )
    config.draft = dict(
        model=draft,
        recipe=_recipe(
            objective="forward_kl",
            optimizer="muon",
            steps=1000,
            batch_size=8,
            window=256,
            learning_rate=3e-3,
            warmup_steps=50,
            compute_dtype="bfloat16",
            checkpoint_every=200,
            seed=1,
        ),
    )
    config.lock()
    return config
