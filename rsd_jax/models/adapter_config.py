"""The configuration of a low-rank adapter in PEFT's format: what is supported, ranks and scales."""

import pathlib
import re
from collections.abc import Mapping
from typing import Any

from rsd_jax.errors import LARGEST_INTEGER, CheckpointError, ConfigError, is_integer, is_number
from rsd_jax.models.weight_files import ADAPTER_CONFIG, HEAD, MATRIX, TABLE_END, read_json

CONFIG, WEIGHTS, PICKLED = ADAPTER_CONFIG, "adapter_model.safetensors", "adapter_model.bin"
MERGE = "merge the adapter into its model with PEFT's merge_and_unload and load that"
# Options of PEFT that are not supported, with the values that switch them off.
_PLAIN: dict[str, tuple[Any, ...]] = {
    "bias": ("none",),
    "use_dora": (None, False),
    "fan_in_fan_out": (None, False),
    "lora_bias": (None, False),
    "trainable_token_indices": (None,),
    "layer_replication": (None,),
    "alora_invocation_tokens": (None,),
    "use_qalora": (None, False),
    "use_bdlora": (None,),
    "eva_config": (None,),
    "corda_config": (None,),
    "kasa_config": (None,),
    "velora_config": (None,),
    "monteclora_config": (None,),
    "loftq_config": (None, {}),
    "arrow_config": (None,),
    "lora_ga_config": (None,),
    # All other values replace the model's own matrix.
    "init_lora_weights": (True, None, False, "gaussian", "eva", "orthogonal"),
}
# PEFT stores these modules whole if they were trained, or if the vocabulary had grown.
_WHOLE = (TABLE_END.removesuffix(MATRIX), HEAD.removesuffix(MATRIX))


def read_adapter_config(path: pathlib.Path) -> Any:
    """The content of adapter_config.json, after a check that the adapter is supported.

    Args:
      path: directory of the adapter.

    Raises:
      CheckpointError: a file is missing, or the configuration is damaged.
      ConfigError: the adapter uses an option that is not supported; the message names the key.
    """
    if (path / PICKLED).is_file() and not (path / WEIGHTS).is_file():
        raise CheckpointError(
            f"{path} holds only {PICKLED}, a pickle, which may run code; if you trust it, convert "
            f"it: safetensors.torch.save_file(torch.load('{PICKLED}', weights_only=True), "
            f"'{WEIGHTS}')"
        )
    for name in (CONFIG, WEIGHTS):
        if not (path / name).is_file():
            raise CheckpointError(f"{path / name} is missing; an adapter directory needs it")
    values = read_json(path / CONFIG)
    if values.get("peft_type") != "LORA":
        raise ConfigError(
            f"{path / CONFIG}: peft_type={values.get('peft_type')!r} is not supported; only 'LORA'"
        )
    for key, plain in _PLAIN.items():
        if values.get(key, plain[0]) not in plain:
            raise ConfigError(f"{path / CONFIG}: {key}={values[key]!r} is not supported; {MERGE}")
    whole = values.get("modules_to_save") or []
    if other := [name for name in whole if str(name).rpartition(".")[2] not in _WHOLE]:
        raise ConfigError(f"{path / CONFIG}: modules_to_save={other} is not supported; {MERGE}")
    return values


def rank_and_scale(path: pathlib.Path, values: Mapping[str, Any], module: str) -> tuple[int, float]:
    """Rank and scale of the factors of a module.

    Args:
      path: directory of the adapter, for error messages.
      values: from `read_adapter_config`.
      module: full name, e.g. "model.layers.0.mlp.up_proj".

    Raises:
      ConfigError: they are no numbers, or a pattern is no regular expression.
    """
    rank = _of_module(path, values, "rank_pattern", module, values.get("r"))
    alpha = _of_module(path, values, "alpha_pattern", module, values.get("lora_alpha"))
    numbers = is_integer(rank) and is_number(alpha)
    if (
        not numbers or not 1 <= rank <= LARGEST_INTEGER or not abs(alpha) <= LARGEST_INTEGER
    ):  # NaN neither
        raise ConfigError(
            f"{path / CONFIG}: {module} has r={rank!r} and lora_alpha={alpha!r}; both must be "
            f"numbers of at most {LARGEST_INTEGER}"
        )
    return rank, alpha / (rank**0.5 if values.get("use_rslora") else rank)


def _of_module(
    path: pathlib.Path, values: Mapping[str, Any], key: str, module: str, default: Any
) -> Any:
    """The value of the first pattern that matches the module's name, or its end behind a dot.

    Patterns are regular expressions, tried in the order of the file, as in PEFT.
    """
    patterns = values.get(key) or {}
    if not isinstance(patterns, Mapping):
        raise ConfigError(f"{path / CONFIG}: {key}={patterns!r} is not an object")
    for pattern, value in patterns.items():
        try:
            fits = re.match(rf"(.*\.)?({pattern})$", module)
        except re.error as error:
            raise ConfigError(
                f"{path / CONFIG}: {key} holds {pattern!r}, no regular expression ({error})"
            ) from None
        if fits:
            return value
    return default
