"""Mistral (Jiang et al. 2023): a Llama without biases, with a window of attention.

The positions of a model are limited to its window, so that the window changes nothing.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from rsd_jax.models.config import LlamaConfig
from rsd_jax.models.config_keys import INERT, PLAIN, ConfigKeys
from rsd_jax.models.hf_config import (
    READ_KEYS,
    WINDOW_KEY,
    Defaults,
    config_from_hf,
    config_to_hf,
    limited_to_window,
)

_WINDOW = 4096  # of transformers' class, if the key is absent
_BIASES = {"attention_bias", "mlp_bias"}
KEYS = ConfigKeys(
    READ_KEYS - _BIASES | {WINDOW_KEY},
    INERT,
    {key: is_plain for key, is_plain in PLAIN.items() if key != WINDOW_KEY},
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MistralConfig(LlamaConfig):
    """A `LlamaConfig` without biases; `max_positions` is at most the window."""

    model_type: ClassVar[str] = "mistral"
    architecture: ClassVar[str] = "MistralForCausalLM"


def read(raw: Mapping[str, Any]) -> LlamaConfig:
    """The configuration of a Mistral; errors as `config_from_hf`."""
    defaults = Defaults(num_kv_heads=8, max_positions=4096 * 32)
    config = config_from_hf(raw, MistralConfig, KEYS, defaults)
    return limited_to_window(config, {WINDOW_KEY: _WINDOW} | dict(raw))


def write(config: LlamaConfig) -> dict[str, Any]:
    """The config.json of a Mistral; up to `max_positions` there is no window."""
    values = {key: value for key, value in config_to_hf(config).items() if key not in _BIASES}
    return values | {WINDOW_KEY: None}
