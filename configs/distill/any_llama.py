"""A small draft for any target on disk, from text and prompts of your own.

Source: the three steps of Goel et al. 2024 (arXiv 2403.00858), at sizes of our choice: a draft of 4
layers with hidden size 256, whose vocabulary and tokenizer are the target's. Most of its parameters
are the table of tokens: 8.2 million of 11.1 million for 32,000 tokens.
Command:
    python launch/distill.py --config=configs/distill/any_llama.py \\
        --config.target_directory=DIR --config.files.patterns="('TEXT',)" \\
        --config.prompt_files.patterns="('PROMPTS.jsonl',)" \\
        --config.decode.prompt_files.patterns="('TEST.jsonl',)"
Cost: no run at this size is on record; a test runs all stages with tiny models. The warm start sees
16 million tokens, the distillation 8 million; larger drafts and targets want more.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from rsd_jax.distillation.config_sections import prompt_files, recipe, responses

_TEMPLATE = "chat"  # the tokenizer's own; "{prompt}" for a base model


def _draft() -> ConfigDict:
    """The shape of the draft; the stages that train the draft need the same shape."""
    return ConfigDict(
        dict(
            vocab_size=placeholder(int),  # the target's
            hidden_size=256,
            intermediate_size=704,
            num_layers=4,
            num_heads=4,
            num_kv_heads=2,
            head_dim=64,
            max_positions=4096,
            tied_embeddings=True,
        )
    )


def get_config() -> ConfigDict:
    """Files, models and recipes; `rsd_jax.distillation.settings` describes the keys."""
    config = ConfigDict()
    config.workdir = "runs/any_llama"
    config.target_directory = "./models/target"  # or a GGUF file, or a name on the Hub
    config.tokenizer = ""  # of the target, if its folder or file has none
    config.target_dtype = "auto"  # float32 on a CPU, bfloat16 elsewhere
    config.files = dict(patterns=("data/text",), field="text", held_out_per_mille=10)
    config.mixture = dict(files=1.0)
    config.number_words = dict(train=0, heldout=0)
    config.corpus_root = ""
    config.prompts = dict()
    config.prompt_files = prompt_files("data/prompts.jsonl", template=_TEMPLATE)
    config.max_prompt_tokens = 256  # of a window of 512, so that every window shows a response
    config.method = dict(name="ar")
    config.responses = responses(
        temperatures=(0.0, 0.3, 0.7, 1.0), max_new_tokens=256, batch_size=8, prompts_per_shard=64
    )
    config.draft_warm_start = dict(
        model=_draft(),
        recipe=recipe(
            steps=2000,
            batch_size=16,
            window=512,
            accumulate=4,  # the logits of 4 windows at a time
            optimizer="muon",
            eval_batch_size=2,
        ),
    )
    config.draft = dict(
        model=_draft(),
        recipe=recipe(
            objective="forward_kl",
            steps=1000,
            batch_size=16,
            window=512,
            accumulate=4,
            optimizer="muon",
            eval_batch_size=2,
            seed=1,
        ),
        data=dict(responses=1.0, text=0.0),
        stored_logits=False,  # the target scores the windows
        on_policy=dict(fraction=0.0, max_new_tokens=128, temperature=1.0),
    )
    config.decode = dict(
        methods=dict(
            sd_4=dict(name="sd", length=4), rsd_s_4x4=dict(name="rsd_s", width=4, length=4)
        ),
        prompts=dict(),
        prompt_files=prompt_files("data/test_prompts.jsonl", template=_TEMPLATE),
        scored=dict(),
        max_new_tokens=128,
        temperature=0.3,
        batch_size=1,
        seed=0,
    )
    config.lock()
    return config
