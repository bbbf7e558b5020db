"""A 117M draft for Llama 2 Chat 7B: pretrained on text, then distilled on the target's responses.

Source: Goel et al. 2024 (arXiv 2403.00858), Llama 2 Chat Drafter 115M. From the paper's abstract:
three steps (pretraining, a dataset that the target writes, distillation on that dataset), the loss
TVD++, 1.64 % of the target's parameters, block efficiency up to 2.3 and speed-up up to 2.4. From
summaries of the paper: 4 layers, hidden size 1024, MLP 2816, 8 heads; 32 A100 for pretraining and 8
for distillation; the block efficiency of 2.3 is at draft length 3.
Our count: 116,925,440 parameters with Llama 2's 32,000 tokens and untied embeddings, 1.74 % of the
target's 6,738,415,616 (1.64 % is 115M of 7.0B).
Our choice, not checked against the paper: every number below except for the shape. Pretraining on
10.5 billion tokens is about as much as Zafrir et al. 2024 gave drafts of Phi-3-mini and Llama 3.1
8B (FastDraft, arXiv 2411.11055, abstract). This configuration has not been run at this size.
Cost: pretraining takes about 6e18 floating-point operations (6 x 84M parameters that act on a token
x 10.5e9 tokens, and attention). The other costs are the target's responses and passes over them.
"""

from ml_collections import ConfigDict

from rsd_jax.distillation.config_sections import prompt_files, recipe, responses

# For Llama 2 Chat; "chat" for the chat template of any other target, "{prompt}" for a base model.
_TEMPLATE = "[INST] {prompt} [/INST]"


def _draft() -> ConfigDict:
    """The shape of the draft, 116.9 million parameters."""
    return ConfigDict(
        dict(
            vocab_size=32_000,
            hidden_size=1024,
            intermediate_size=2816,
            num_layers=4,
            num_heads=8,
            num_kv_heads=8,
            head_dim=128,
            max_positions=4096,
            tied_embeddings=False,
        )
    )


def get_config() -> ConfigDict:
    """Files, models and recipes; the draft uses the target's tokenizer, `<s>` and `</s>`."""
    config = ConfigDict()
    config.workdir = "runs/llama2_115m"
    config.target_directory = "./models/Llama-2-7b-chat-hf"  # in Hugging Face's format
    config.tokenizer = ""  # of the target, if its folder or file has none
    config.target_dtype = "bfloat16"
    # Files, folders or patterns, see distillation/data/text_files.py.
    config.files = dict(patterns=("data/text",), field="text", held_out_per_mille=1)
    config.mixture = dict(files=1.0)
    config.number_words = dict(train=0, heldout=0)
    config.corpus_root = ""
    config.prompts = dict()
    config.prompt_files = prompt_files("data/prompts.jsonl", template=_TEMPLATE)
    config.max_prompt_tokens = 512  # of a window of 1024, so that every window shows a response
    config.method = dict(name="ar")
    config.responses = responses(
        temperatures=(0.0, 0.3, 0.7, 1.0),  # at which the pair will be used
        top_p=0.95,
        max_new_tokens=512,
        batch_size=64,
        prompts_per_shard=256,
    )
    config.draft_warm_start = dict(
        model=_draft(),
        recipe=recipe(
            objective="cross_entropy",
            steps=20_000,
            batch_size=256,
            window=2048,
            accumulate=32,  # the logits of 8 windows at a time take 2 GiB in float32
            learning_rate=1e-3,
            warmup_steps=1000,
            schedule="wsd",  # lets the number of steps change during the run
            compute_dtype="bfloat16",
            checkpoint_every=500,
        ),
    )
    config.draft = dict(
        model=_draft(),
        recipe=recipe(
            objective="tvd_pp",
            steps=5000,
            batch_size=64,
            window=1024,
            accumulate=8,
            learning_rate=3e-4,
            warmup_steps=200,
            compute_dtype="bfloat16",
            checkpoint_every=500,
            seed=1,
        ),
        data=dict(responses=1.0, text=0.0),
        stored_logits=False,  # the target scores the windows: whole laws, and no large files
        on_policy=dict(fraction=0.0, max_new_tokens=256, temperature=1.0),
    )
    config.decode = dict(
        methods=dict(
            sd_3=dict(name="sd", length=3), rsd_s_6x5=dict(name="rsd_s", width=6, length=5)
        ),
        prompts=dict(),
        prompt_files=prompt_files("data/test_prompts.jsonl", template=_TEMPLATE),
        scored=dict(),
        max_new_tokens=128,
        temperature=0.3,
        batch_size=1,
        seed=0,
    )
    config.losses = dict(objectives=("cross_entropy", "forward_kl", "tvd", "tvd_pp"))
    config.lock()
    return config
