"""The config.json of a model in a GGUF file.

Source: `convert_hf_to_gguf.py` and the loader of llama.cpp, which write and read such files.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from rsd_jax.errors import ConfigError, is_number
from rsd_jax.models.config import RopeConfig
from rsd_jax.models.gguf_files import GgufFile
from rsd_jax.models.rope import inverse_frequencies

LLAMA = "llama"
"""The architecture of Llamas and Mistrals; the rows of their q and k are in another order."""
_BIASES = {"attention_bias": "blk.0.attn_q.bias", "mlp_bias": "blk.0.ffn_gate.bias"}
# By architecture, which is the `model_type` of the family here too: what config.json says of
# biases. Qwen2 has the same biases always.
ARCHITECTURES = {LLAMA: ("attention_bias", "mlp_bias"), "qwen2": (), "qwen3": ("attention_bias",)}
_TABLE, FREQUENCIES = "token_embd.weight", "rope_freqs.weight"
_ENDS = ("eos_token_id", "eot_token_id", "eom_token_id")
_SIZES = {
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "max_position_embeddings": "context_length",
}
_WINDOW = "attention.sliding_window"
# Keys of the metadata, without "llama.": what is read, and what changes no output.
_READ = frozenset(_SIZES.values()) | {
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    _WINDOW,
    "attention.layer_norm_rms_epsilon",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scale_linear",
}
_INERT = {
    "vocab_size",
    "tensor_data_layout",
    "rope.scaling.finetuned",
    "rope.scaling.original_context_length",
}
# Keys that change nothing at these values.
_NEUTRAL = {"attention.causal": True, "expert_count": 0, "expert_used_count": 0}


def config_json(file: GgufFile) -> dict[str, Any]:
    """What the config.json of the same model says.

    Raises:
      ConfigError: the architecture is another, or the metadata ask for something that its family
        does not implement; names the keys.
    """
    metadata, tensors = file.metadata, file.tensors
    _check(metadata)
    own, architecture = own_keys(metadata), architecture_of(metadata)
    sizes = {key: positive(metadata, name) for key, name in _SIZES.items()}
    heads = sizes["num_attention_heads"]
    own_width = own.get("attention.key_length")
    head_dim = own_width or sizes["hidden_size"] // heads
    for key in ("attention.value_length", "rope.dimension_count"):
        if own.get(key, head_dim) != head_dim:
            raise ConfigError(
                f"{architecture}.{key}={own[key]} is not supported; only the width of a head is, "
                f"{head_dim}"
            )
    if _TABLE not in tensors:
        raise ConfigError(f"the file lacks the tensor {_TABLE}; it does not hold a whole model")
    if own.get(_WINDOW):  # up to the width of a window, the window changes nothing
        longest = sizes["max_position_embeddings"]
        sizes["max_position_embeddings"] = min(longest, positive(metadata, _WINDOW))
    ends = [metadata.get(f"tokenizer.ggml.{name}") for name in _ENDS]
    return sizes | {
        "model_type": architecture,
        "vocab_size": tensors[_TABLE].shape[0],
        "num_key_value_heads": positive(metadata, "attention.head_count_kv", heads),
        "head_dim": own_width,  # None for the equal share of a head, in every family
        "rms_norm_eps": positive(metadata, "attention.layer_norm_rms_epsilon"),
        "rope_parameters": _rope(file, own, head_dim),
        **{key: _BIASES[key] in tensors for key in ARCHITECTURES[architecture]},
        "tie_word_embeddings": "output.weight" not in tensors,
        "bos_token_id": metadata.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": list(dict.fromkeys(i for i in ends if i is not None)),
    }


def architecture_of(metadata: Mapping[str, Any]) -> str:
    """The architecture of a file, in front of its keys.

    Raises:
      ConfigError: the architecture is not supported.
    """
    name = metadata.get("general.architecture")
    if name not in ARCHITECTURES:
        raise ConfigError(
            f"general.architecture={name!r} is not supported; supported: {list(ARCHITECTURES)}"
        )
    return str(name)


def own_keys(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of the architecture, by their keys without the architecture in front."""
    prefix = f"{architecture_of(metadata)}."
    return {k.removeprefix(prefix): v for k, v in metadata.items() if k.startswith(prefix)}


def _check(metadata: Mapping[str, Any]) -> None:
    architecture = architecture_of(metadata)
    kind = metadata.get("general.type", "model")
    if kind != "model":
        raise ConfigError(f"general.type={kind!r} is not a model; give the file of the model")
    refused = [
        f"{architecture}.{key}={value!r}"
        for key, value in own_keys(metadata).items()
        if key not in _READ | _INERT and not (key in _NEUTRAL and value == _NEUTRAL[key])
    ]
    if refused:
        raise ConfigError(f"{', '.join(refused)}: not supported; give the file of another model")


def positive(metadata: Mapping[str, Any], name: str, default: Any = None) -> Any:
    """A positive number; arrays, which hold one per layer, must be constant.

    Args:
      metadata: of a file.
      name: of the key, without the architecture in front.
      default: if the key is absent.

    Raises:
      ConfigError: the key is missing without a default, or the value is another.
    """
    key = f"{architecture_of(metadata)}.{name}"
    value = metadata.get(key, default)
    if isinstance(value, tuple) and len(set(value)) == 1:
        value = value[0]
    if value is None:
        raise ConfigError(f"the metadata lack {key}; convert the model again")
    if not is_number(value) or not value > 0:
        raise ConfigError(
            f"{key}={value!r} is not supported; only one number above 0 for all layers is"
        )
    return value


def _rope(file: GgufFile, own: Mapping[str, Any], head_dim: int) -> dict[str, Any]:
    """The rotary embedding, under the names of config.json."""
    theta = positive(file.metadata, "rope.freq_base", 10000.0)
    kind = own.get("rope.scaling.type", "none")
    factor = own.get("rope.scaling.factor", own.get("rope.scale_linear", 1.0))
    if "rope.scale_linear" in own and "rope.scaling.type" not in own:
        kind = "linear"
    values = {"rope_type": "default", "rope_theta": theta}
    if kind != "none" and factor:
        values |= {"rope_type": kind, "factor": factor}
    if FREQUENCIES not in file.tensors:
        return values
    if values["rope_type"] != "default":
        raise ConfigError(
            f"the file holds {FREQUENCIES}, and its rope.scaling.type is {kind!r}; only "
            "one of them is supported"
        )
    return values | _scaling_of(file.tensors[FREQUENCIES].values(), theta, head_dim)


def _scaling_of(divisors: np.ndarray, theta: float, head_dim: int) -> dict[str, Any]:
    """The Llama 3 scaling that a file's divisors of the frequencies, f32[K / 2], were made from.

    Raises:
      ConfigError: no scaling with the constants of the published models gives these divisors.
    """
    if np.all(divisors == 1):
        return {}
    names = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    factor = float(divisors.max())
    rope = RopeConfig(
        kind="llama3", theta=theta, factor=factor, original_max_position=8192, **names
    )
    plain = inverse_frequencies(RopeConfig(theta=theta), head_dim)
    if (
        divisors.shape != plain.shape
        or not np.all(divisors > 0)
        or not np.allclose(plain / divisors, inverse_frequencies(rope, head_dim), rtol=1e-5, atol=0)
    ):
        raise ConfigError(
            f"the tensor {FREQUENCIES} scales the rotary embedding in a way that is not "
            f"supported; only Llama 3's is, with {names} and an original context of 8192"
        )
    return {
        "rope_type": "llama3",
        "factor": factor,
        "original_max_position_embeddings": 8192,
        **names,
    }
