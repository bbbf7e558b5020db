"""Qwen2 (also Qwen2.5) and Qwen3: Llamas with other biases and norms.

Qwen2 has biases in the projections to queries, keys and values, and none elsewhere; no key says so.
Qwen3 normalises the queries and keys of each head. Source: transformers' classes. Where a model
uses a window of attention, its positions are limited to the window.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from rsd_jax.models.config import LlamaConfig
from rsd_jax.models.config_keys import INERT, PLAIN, ConfigKeys
from rsd_jax.models.config_values import flag
from rsd_jax.models.hf_config import (
    READ_KEYS,
    WINDOW_KEY,
    Defaults,
    config_from_hf,
    config_to_hf,
    limited_to_window,
)

_USES_WINDOW, _LAYERS = "use_sliding_window", "layer_types"
_KINDS = ("full_attention", "sliding_attention")
_PLAIN = {key: is_plain for key, is_plain in PLAIN.items() if key != WINDOW_KEY} | {
    _LAYERS: lambda value: (
        value is None or (isinstance(value, list) and all(kind in _KINDS for kind in value))
    )
}
_WINDOW_KEYS = {_USES_WINDOW, WINDOW_KEY}
QWEN2_KEYS = ConfigKeys(
    READ_KEYS - {"attention_bias", "mlp_bias"} | _WINDOW_KEYS,
    INERT | {"max_window_layers"},
    _PLAIN,
)
QWEN3_KEYS = dataclasses.replace(QWEN2_KEYS, read=QWEN2_KEYS.read | {"attention_bias"})
_DEFAULTS = Defaults(num_kv_heads=32, max_positions=32768, bos_id=None, eos_id=None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Qwen2Config(LlamaConfig):
    """A `LlamaConfig` with biases for queries, keys and values alone."""

    model_type: ClassVar[str] = "qwen2"
    architecture: ClassVar[str] = "Qwen2ForCausalLM"

    def has_bias(self, projection: str) -> bool:
        return projection in ("q_proj", "k_proj", "v_proj")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Qwen3Config(LlamaConfig):
    """A `LlamaConfig` whose queries and keys are normalised head by head."""

    model_type: ClassVar[str] = "qwen3"
    architecture: ClassVar[str] = "Qwen3ForCausalLM"
    head_norms: ClassVar[bool] = True


def read_qwen2(raw: Mapping[str, Any]) -> LlamaConfig:
    """The configuration of a Qwen2; errors as `config_from_hf`."""
    return _limited(config_from_hf(raw, Qwen2Config, QWEN2_KEYS, _DEFAULTS), raw)


def read_qwen3(raw: Mapping[str, Any]) -> LlamaConfig:
    """The configuration of a Qwen3; errors as `config_from_hf`."""
    defaults = dataclasses.replace(_DEFAULTS, head_dim=128)
    return _limited(config_from_hf(raw, Qwen3Config, QWEN3_KEYS, defaults), raw)


def _limited(config: LlamaConfig, raw: Mapping[str, Any]) -> LlamaConfig:
    """The configuration with its positions limited to the window, if the model uses one."""
    if flag(raw, _USES_WINDOW) or "sliding_attention" in (raw.get(_LAYERS) or ()):
        return limited_to_window(config, {WINDOW_KEY: 4096} | dict(raw))
    return config


def write_qwen2(config: LlamaConfig) -> dict[str, Any]:
    """The config.json of a Qwen2; up to `max_positions` there is no window."""
    return _written(config, QWEN2_KEYS)


def write_qwen3(config: LlamaConfig) -> dict[str, Any]:
    """The config.json of a Qwen3; up to `max_positions` there is no window."""
    return _written(config, QWEN3_KEYS)


def _written(config: LlamaConfig, keys: ConfigKeys) -> dict[str, Any]:
    values = {key: value for key, value in config_to_hf(config).items() if key in keys.read}
    return values | {_USES_WINDOW: False}
