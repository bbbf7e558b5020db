"""The same model directory through Hugging Face (torch, CPU, eager attention) and through us.

torch and transformers are imported inside the functions, so that tests that do not compare with
them do not pay for the import.
"""

import functools
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rsd_jax.core.types import Params
from rsd_jax.models.checkpoint import load_params, read_config
from rsd_jax.models.family import Network
from rsd_jax.models.loading import build_model

Directory = str | os.PathLike[str]

ATOL = 1e-4
"""Largest absolute difference of two float32 logits that counts as the same function."""


def hf_model(directory: Directory) -> Any:
    """The transformers model in `directory`, float32, for inference; every weight must be there."""
    import torch
    import transformers

    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        pathlib.Path(directory),
        dtype=torch.float32,
        attn_implementation="eager",
        output_loading_info=True,
        local_files_only=True,
    )
    odd = {kind: names for kind, names in info.items() if names}
    assert not odd, f"transformers did not load {directory} cleanly: {odd}"
    return model.eval()


def hf_logits(directory: Directory, tokens: np.ndarray) -> np.ndarray:
    """Logits f32[B, Q, V] of transformers after every token of whole sequences i32[B, Q]."""
    import torch

    with torch.inference_mode():
        return hf_model(directory)(torch.tensor(np.asarray(tokens))).logits.numpy()


def hf_greedy(
    directory: Directory,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    eos_id: int | None = None,
) -> list[list[int]]:
    """`greedy_of` the model in `directory`."""
    return greedy_of(hf_model(directory), prompts, max_new_tokens, eos_id)


def greedy_of(
    model: Any, prompts: Sequence[Sequence[int]], max_new_tokens: int, eos_id: int | None = None
) -> list[list[int]]:
    """New tokens (a first EOS included) of transformers' greedy `generate`, a prompt at a time."""
    import torch

    out = []
    for prompt in prompts:
        ids = torch.tensor([list(prompt)])
        with torch.inference_mode():
            row = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=max_new_tokens,
                do_sample=False,
                num_beams=1,
                eos_token_id=eos_id,
                pad_token_id=0 if eos_id is None else eos_id,
            )
        out.append(row[0, len(prompt) :].tolist())
    return out


def random_params(model: Network, dtype: str = "float32", seed: int = 0) -> Params:
    """Parameters drawn wide, so that attention is uneven and logits are of order 1 to 10.

    Drawn on the host: compiling the random draws of `init_params` takes longer than a test.
    """
    rng = np.random.default_rng(seed)

    def draw(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> jax.Array:
        mean = 1.0 if path[-1].key == "scale" else 0.0
        scale = 1.0 if path[-1].key == "embedding" else 0.2
        return jnp.asarray(rng.normal(mean, scale, leaf.shape).astype(dtype))

    return jax.tree_util.tree_map_with_path(
        draw, jax.eval_shape(model.init_params, jax.random.key(0))
    )


@functools.partial(jax.jit, static_argnums=0)
def score(model: Network, params: Params, tokens: jax.Array) -> jax.Array:
    """`LanguageModel.score`, compiled."""
    return model.score(params, tokens)


def our_logits(directory: Directory, tokens: np.ndarray, dtype: str = "float32") -> np.ndarray:
    """Logits f32[B, Q, V] of our model after every token of whole sequences i32[B, Q]."""
    config = read_config(directory)
    params = load_params(directory, config, dtype=dtype)
    model = build_model(config, dtype=dtype)
    return np.asarray(score(model, params, np.asarray(tokens, np.int32)))
