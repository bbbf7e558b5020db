"""Writes tiny GGUF files as llama.cpp's converter does, from directories in Hugging Face's format.

Tensor names come from the library's own table. The permutation of q and k, and the divisors of
Llama 3's frequencies, follow `convert_hf_to_gguf.py`.
"""

import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import gguf
import numpy as np
from safetensors.numpy import load_file

from rsd_jax.models.config import LlamaConfig

F32 = gguf.GGMLQuantizationType.F32


def _interleaved(values: np.ndarray, heads: int) -> np.ndarray:
    halves = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
    return halves.swapaxes(1, 2).reshape(values.shape)


def llama_tensors(directory: pathlib.Path, config: LlamaConfig) -> dict[str, np.ndarray]:
    """The tensors of a directory with model.safetensors, as the converter writes them.

    A Mistral is written as a Llama; of Qwen2 and Qwen3, no rows are permuted.
    """
    architecture = architecture_of(config)
    table = gguf.get_tensor_name_map(gguf.MODEL_ARCH[architecture.upper()], config.num_layers)
    heads = {"q_proj": config.num_heads, "k_proj": config.num_kv_heads}
    heads = heads if architecture == "llama" else {}
    tensors = {}
    for name, values in load_file(directory / "model.safetensors").items():
        projection = name.split(".")[-2]
        if projection in heads:
            values = _interleaved(values, heads[projection])
        tensors[table.get_name(name, try_suffixes=(".weight", ".bias"))] = values
    return tensors


def architecture_of(config: LlamaConfig) -> str:
    """What the converter calls the architecture of a family."""
    return "llama" if config.model_type == "mistral" else config.model_type


def llama3_divisors(config: LlamaConfig) -> np.ndarray:
    """What the converter stores as rope_freqs.weight."""
    rope, found = config.rope, []
    for i in range(0, config.head_dim, 2):
        wavelength = 2 * math.pi * rope.theta ** (i / config.head_dim)
        if wavelength < rope.original_max_position / rope.high_freq_factor:
            found.append(1.0)
        elif wavelength > rope.original_max_position / rope.low_freq_factor:
            found.append(rope.factor)
        else:
            smooth = (rope.original_max_position / wavelength - rope.low_freq_factor) / (
                rope.high_freq_factor - rope.low_freq_factor
            )
            found.append(1 / ((1 - smooth) / rope.factor + smooth))
    return np.asarray(found, np.float32)


def llama_metadata(config: LlamaConfig) -> dict[str, Any]:
    """The metadata of the network, without the optional keys."""
    found = {
        "block_count": config.num_layers,
        "context_length": config.max_positions,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_heads,
        "attention.head_count_kv": config.num_kv_heads,
        "attention.layer_norm_rms_epsilon": config.norm_eps,
        "rope.freq_base": config.rope.theta,
        "rope.dimension_count": config.head_dim,
        "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim,
        "vocab_size": config.vocab_size,
    }
    if config.rope.kind == "linear":
        found |= {"rope.scaling.type": "linear", "rope.scaling.factor": config.rope.factor}
    ids = {"tokenizer.ggml.bos_token_id": config.bos_id}
    for name, token in zip(("eos", "eot"), config.eos_ids, strict=False):
        ids[f"tokenizer.ggml.{name}_token_id"] = token
    return {f"{architecture_of(config)}.{name}": value for name, value in found.items()} | {
        name: value for name, value in ids.items() if value is not None
    }


def write(
    path: pathlib.Path,
    metadata: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray] | None = None,
    *,
    architecture: str = "llama",
    kinds: Mapping[str, gguf.GGMLQuantizationType] | None = None,
) -> pathlib.Path:
    """Writes a file; `kinds` gives the format of the tensors that are not stored as they are."""
    writer = gguf.GGUFWriter(path, architecture)
    for name, value in metadata.items():
        _add(writer, name, value)
    for name, values in (tensors or {}).items():
        kind = (kinds or {}).get(name, F32)
        values = np.ascontiguousarray(values)
        if kind == F32 or values.dtype != np.float32:
            writer.add_tensor(name, values)
        else:
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add(writer: gguf.GGUFWriter, name: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(name, value)
    elif isinstance(value, int):
        writer.add_uint32(name, value)
    elif isinstance(value, float):
        writer.add_float32(name, value)
    elif isinstance(value, str):
        writer.add_string(name, value)
    else:
        writer.add_array(name, list(value))


def tokenizer_metadata(tokenizer: Any, pre: str, **others: Any) -> dict[str, Any]:
    """The metadata of a byte-level BPE tokenizer of transformers."""
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary = tokenizer.get_vocab()
    special = set(tokenizer.all_special_tokens) | {
        token.content for token in tokenizer.added_tokens_decoder.values() if token.special
    }
    tokens: Sequence[str] = sorted(vocabulary, key=lambda token: vocabulary[token])
    merges = content["model"]["merges"]
    found = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3 if token in special else 1 for token in tokens],
        "tokenizer.ggml.merges": [m if isinstance(m, str) else " ".join(m) for m in merges],
    }
    if tokenizer.chat_template:
        found["tokenizer.chat_template"] = tokenizer.chat_template
    return found | others
