"""Responses of the quickstart target, on which its draft is distilled.

Source: data as in Goel et al. 2024 (responses that the target wrote, at the temperatures at which
it is used); sizes chosen for two CPU cores.
Command: python launch/distill.py --config=configs/distill/quickstart.py --stage=generate
Cost: to be measured.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config() -> ConfigDict:
    """Models, prompts and sampling; the keys of `responses` are those of `ResponseSettings`."""
    config = ConfigDict()
    config.workdir = "runs/distill-quickstart"
    # Directories in Hugging Face's format; empty: those of the pair that ships.
    config.target = ""
    config.draft = ""
    config.dtype = "float32"
    config.corpus_root = ""  # empty: the standard library of the running interpreter
    config.prompts = dict(library=1200, number_words=400, docstrings=400)  # training split
    config.max_prompt_tokens = 192  # of a window of 256, so that every window shows a response
    config.method = dict(name="ar")  # with the options of build_method
    config.responses = dict(
        temperatures=(0.3, 1.0),
        top_k=placeholder(int),
        top_p=1.0,
        max_new_tokens=128,
        seed=0,
        batch_size=16,
        prompts_per_shard=64,
        top_logprobs=0,
    )
    config.lock()
    return config
