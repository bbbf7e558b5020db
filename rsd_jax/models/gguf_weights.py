"""The tensors of a model in a GGUF file, under Hugging Face's names and in its order of rows.

Source: `convert_hf_to_gguf.py` of llama.cpp, which writes such files.
"""

import dataclasses
import functools
import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from rsd_jax.models.gguf_config import FREQUENCIES, LLAMA, architecture_of, positive
from rsd_jax.models.gguf_files import GgufFile, GgufTensor
from rsd_jax.models.weight_files import Stored

_TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
# Besides these, by architecture.
_MORE = {"qwen3": {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}}


@dataclasses.dataclass(frozen=True)
class _Slices:
    """A tensor that is read by parts, as `get_slice` of safetensors gives it."""

    tensor: GgufTensor

    @functools.cached_property
    def _values(self) -> np.ndarray:
        return self.tensor.values()  # a format has no parts that could be read alone

    def __getitem__(self, index: tuple[slice, ...]) -> np.ndarray:
        return self._values[index]

    def get_shape(self) -> list[int]:
        return list(self.tensor.shape)

    def get_dtype(self) -> str:
        return "F32"


class _Weights(NamedTuple):
    """Tensors of a GGUF file, read as those of a safetensors file, by Hugging Face's names."""

    tensors: Mapping[str, GgufTensor]

    def get_slice(self, name: str) -> _Slices:
        return _Slices(self.tensors[name])


def stored_tensors(file: GgufFile) -> dict[str, Stored]:
    """The tensors of a file that `config_json` accepts, by Hugging Face's names.

    A name that has no counterpart there stays as it is. The divisors of the frequencies are left
    out, as they are in the configuration.
    """
    metadata, architecture = file.metadata, architecture_of(file.metadata)
    heads = int(positive(metadata, "attention.head_count"))
    groups = {
        "self_attn.q_proj": heads,
        "self_attn.k_proj": int(positive(metadata, "attention.head_count_kv", heads)),
    }
    if architecture != LLAMA:  # llama.cpp rotates halves there
        groups = {}
    names = _LAYER | _MORE.get(architecture, {})
    tensors = {}
    for name, tensor in file.tensors.items():
        if name == FREQUENCIES:
            continue
        renamed = _renamed(name, names)
        for projection, count in groups.items():
            if f".{projection}." in renamed:
                tensor = tensor._replace(values=functools.partial(_half_split, tensor, count))
        tensors[renamed] = tensor
    weights = _Weights(tensors)
    return {name: Stored(weights, file.path) for name in tensors}


def _renamed(name: str, names: Mapping[str, str]) -> str:
    if layer := re.fullmatch(r"blk\.(\d+)\.(\w+)\.(weight|bias)", name):
        number, part, kind = layer.groups()
        return f"model.layers.{number}.{names[part]}.{kind}" if part in names else name
    part, _, kind = name.partition(".")
    return f"{_TOP[part]}.{kind}" if part in _TOP else name


def _half_split(tensor: GgufTensor, heads: int) -> np.ndarray:
    """The rows of a head with its halves one after the other, as Hugging Face's rotation has them.

    llama.cpp rotates neighbours, so its files interleave the halves.
    """
    values = tensor.values()
    pairs = values.reshape(heads, -1, 2, *values.shape[1:])
    return pairs.swapaxes(1, 2).reshape(values.shape)
