"""The quickstart pair: a 9.8M target and a 0.9M draft on CPython's library and two small tasks.

Source: shapes and budget are chosen for two CPU cores. The draft is first trained on the text and
then distilled on responses of the target, at the temperatures at which the draft is used (Goel et
al. 2024).
Command: python launch/distill.py --config=configs/distill/quickstart.py
Cost: 92 minutes on two cores of an AMD EPYC, 57 of them for the target (docs/results/training.md).
Expected: BLEU 97 on number_words; with the draft, at T = 0.3 on the three tasks together, block
efficiency 3.2 with SD of length 4 and 4.4 with RSD-S of width 6 and length 5.
"""

from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from rsd_jax.distillation.config_sections import prompt_files, recipe


def _model(**shape: int) -> ConfigDict:
    return ConfigDict(
        dict(vocab_size=2048, head_dim=40, max_positions=2048, tied_embeddings=True, **shape)
    )


def _recipe(**values: Any) -> ConfigDict:
    return recipe(**dict(optimizer="muon", batch_size=8, window=256) | values)


def _models_and_recipes(config: ConfigDict) -> None:
    config.target = dict(
        model=_model(
            hidden_size=320, intermediate_size=864, num_layers=8, num_heads=8, num_kv_heads=4
        ),
        recipe=_recipe(
            objective="cross_entropy",
            steps=1700,
            learning_rate=3e-3,
            schedule="wsd",
            compute_dtype="bfloat16",
        ),
    )
    draft = dict(hidden_size=160, intermediate_size=432, num_layers=2, num_heads=4, num_kv_heads=2)
    config.draft_warm_start = dict(
        model=_model(**draft),
        recipe=_recipe(
            objective="cross_entropy", steps=1000, learning_rate=4e-3, checkpoint_every=500
        ),
    )
    config.draft = dict(
        model=_model(**draft),
        recipe=_recipe(
            objective="forward_kl",
            steps=600,
            learning_rate=3e-3,
            warmup_steps=50,
            checkpoint_every=300,
            seed=1,
        ),
        # Shares of the windows. In those of responses, the draft learns only what the target wrote.
        data=dict(responses=1.0, text=0.0),
        # True: the target's law is read with the responses; False: the target scores windows.
        stored_logits=True,
        # Windows that the draft writes during training; fraction > 0 needs stored_logits=False.
        on_policy=dict(fraction=0.0, max_new_tokens=64, temperature=1.0),
    )


def _skipping() -> ConfigDict:
    """An adapter with which the target drafts for itself, trained with random skip sets."""
    return ConfigDict(
        dict(
            rank=32,
            # Fewest and most skipped sub-layers, of the 12 between the first and the last layer.
            fewest=4,
            most=10,
            mixture=dict(library=0.25, number_words=0.5, docstrings=0.25),
            recipe=_recipe(
                objective="forward_kl",
                optimizer="adamw",
                weight_decay=0.0,  # because the target's weights are among the parameters
                steps=600,
                learning_rate=3e-3,
                warmup_steps=20,
                compute_dtype="bfloat16",
            ),
        )
    )


def get_config() -> ConfigDict:
    """Sizes and recipes of every stage.

    `rsd_jax.distillation.settings` describes the keys: of a recipe in `TrainingSettings`, of
    `responses` in `ResponseSettings`, of `on_policy` in `OnPolicy`.
    """
    config = ConfigDict()
    config.workdir = "runs/quickstart"
    # A trained target in Hugging Face's format, with its tokenizer; empty: the target is trained.
    config.target_directory = ""
    config.tokenizer = ""  # of the target in `target_directory`, if its folder has none
    config.target_dtype = "float32"  # of the target in `target_directory`, in memory
    config.vocab_size = 2048
    config.corpus_root = ""  # empty: the standard library of the running interpreter
    # Share of each source in the windows of a batch; 0 leaves a source out.
    config.mixture = dict(library=0.5, number_words=0.3, docstrings=0.2)
    config.number_words = dict(train=60_000, heldout=500)  # number of examples
    # Text of your own for the source `files`, see `text_files.read_documents`.
    config.files = dict(patterns=(), field="text", held_out_per_mille=40)
    config.tokenizer_documents = 500  # per task; with more, long compounds become single tokens
    _models_and_recipes(config)
    config.skipping = _skipping()
    config.prompts = dict(library=1000, number_words=400, docstrings=400)  # of the training split
    config.prompt_files = prompt_files(template="{prompt}")
    config.max_prompt_tokens = 192  # of a window of 256, so that every window shows a response
    config.method = dict(name="ar")  # with the options of build_method
    config.responses = dict(
        temperatures=(0.3, 1.0),
        top_k=placeholder(int),
        top_p=1.0,
        max_new_tokens=128,
        seed=0,
        batch_size=32,
        prompts_per_shard=250,
        top_logprobs=64,
    )
    # The stage `decode`: methods, and how many test prompts of each task are decoded and scored.
    config.decode = dict(
        methods=dict(
            sd_4=dict(name="sd", length=4), rsd_s_6x5=dict(name="rsd_s", width=6, length=5)
        ),
        prompts=dict(completion=32, docstrings=32, number_words=32),
        prompt_files=prompt_files(template="{prompt}"),
        scored=dict(docstrings=174, number_words=100),
        max_new_tokens=64,
        temperature=0.3,
        batch_size=8,
        seed=0,
    )
    # The stage `losses`: each of its drafts differs from `draft` in the objective alone.
    config.losses = dict(
        objectives=(
            "cross_entropy",
            "forward_kl",
            "reverse_kl",
            "tvd",
            "tvd_pp",
            "lk",
            "lk_mixed",
        )
    )
    config.lock()
    return config
