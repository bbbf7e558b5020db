"""The table of model families, by `model_type` of config.json."""

from collections.abc import Mapping
from typing import Any

from rsd_jax.errors import ConfigError
from rsd_jax.models import mistral, opt_config, opt_params, qwen
from rsd_jax.models.family import Family
from rsd_jax.models.hf_config import config_from_hf, config_to_hf
from rsd_jax.models.llama import LlamaModel
from rsd_jax.models.llama_params import param_axes, tensor_specs
from rsd_jax.models.opt import OPTModel

FAMILIES: dict[str, Family] = {
    "llama": Family(config_from_hf, config_to_hf, tensor_specs, param_axes, LlamaModel),
    "mistral": Family(mistral.read, mistral.write, tensor_specs, param_axes, LlamaModel),
    "qwen2": Family(qwen.read_qwen2, qwen.write_qwen2, tensor_specs, param_axes, LlamaModel),
    "qwen3": Family(qwen.read_qwen3, qwen.write_qwen3, tensor_specs, param_axes, LlamaModel),
    "opt": Family(
        opt_config.read, opt_config.write, opt_params.tensor_specs, opt_params.param_axes, OPTModel
    ),
}


def family_of(config: Any) -> Family:
    """The family of a `ModelConfig`."""
    return FAMILIES[config.model_type]


def config_from_json(raw: Mapping[str, Any]) -> Any:
    """The `ModelConfig` for the content of a config.json.

    Raises:
      ConfigError: the family is unknown, or its network does not implement a key.
    """
    kind = raw.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise ConfigError(f"model_type={kind!r} is not supported; supported: {sorted(FAMILIES)}")
    return FAMILIES[kind].read_config(raw)
