"""Low-rank adapters (Hu et al. 2021) in PEFT's format, which add to a model's matrices.

When the model is loaded, a matrix W becomes W + s B A, with r rows of A and r columns of B. An
adapted model therefore costs no more than the model.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from rsd_jax.errors import CheckpointError, ConfigError
from rsd_jax.models.families import family_of
from rsd_jax.models.family import ModelConfig, Path
from rsd_jax.models.weight_files import (
    ADAPTER_CONFIG,
    existing_directory,
    open_file,
    read_json,
    some,
)

CONFIG, WEIGHTS = ADAPTER_CONFIG, "adapter_model.safetensors"
_PREFIX = "base_model.model."
_MATRIX = ".weight"
# Options of PEFT that are not supported, with the values that switch them off.
_PLAIN: dict[str, tuple[Any, ...]] = {
    "bias": ("none",),
    "use_dora": (None, False),
    "fan_in_fan_out": (None, False),
    "modules_to_save": (None, []),
    "rank_pattern": (None, {}),
    "alpha_pattern": (None, {}),
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


@dataclasses.dataclass(frozen=True)
class Adapter:
    """The factors that are added to kernels.

    Attributes:
      factors: by path of the kernel [in, out]: A f32[in, r] and B f32[r, out].
      scale: s.
    """

    factors: Mapping[Path, tuple[np.ndarray, np.ndarray]]
    scale: float

    def added_to(self, path: Path, kernel: np.ndarray) -> np.ndarray:
        """The kernel [in, out] plus the adapter's product, rounded once to the kernel's dtype."""
        if path not in self.factors:
            return kernel
        a, b = self.factors[path]
        adapted: np.ndarray = kernel.astype(np.float32) + np.float32(self.scale) * (a @ b)
        return adapted.astype(kernel.dtype)


def load_adapter(directory: str | os.PathLike[str], config: ModelConfig) -> Adapter:
    """Reads adapter_config.json and adapter_model.safetensors, as PEFT writes them.

    Args:
      directory: directory of the adapter.
      config: configuration of the adapter's model.

    Raises:
      CheckpointError: files are missing or damaged, or hold tensors that the model does not have;
        the message names the files or tensors.
      ConfigError: the adapter uses an option that is not supported; the message names the key.
    """
    path = existing_directory(directory)
    for name in (CONFIG, WEIGHTS):
        if not (path / name).is_file():
            raise CheckpointError(f"{path / name} is missing; an adapter directory needs it")
    values = read_json(path / CONFIG)
    rank, scale = _checked(path, values)
    factors = {}
    with contextlib.ExitStack() as stack:
        file = open_file(path / WEIGHTS, stack)
        left = set(file.keys())
        for name, spec in family_of(config).tensors(config).items():
            stem = f"{_PREFIX}{name.removesuffix(_MATRIX)}"
            keys = f"{stem}.lora_A{_MATRIX}", f"{stem}.lora_B{_MATRIX}"
            if not spec.transposed or left.isdisjoint(keys):
                continue
            if absent := sorted(set(keys) - left):
                raise CheckpointError(f"{path / WEIGHTS} lacks {absent[0]}; copy it again")
            a, b = (file.get_tensor(key).astype(np.float32) for key in keys)
            if (a.shape, b.shape) != ((rank, spec.stored[1]), (spec.stored[0], rank)):
                raise CheckpointError(
                    f"{path}: the factors of {name} have shapes {list(a.shape)} and "
                    f"{list(b.shape)}; rank {rank} and a matrix {list(spec.stored)} need "
                    f"{[rank, spec.stored[1]]} and {[spec.stored[0], rank]}"
                )
            factors[spec.path] = (a.T, b.T)
            left -= set(keys)
    if left or not factors:
        found = f"{some(sorted(left))}, which this model does not have" if left else "no factors"
        raise CheckpointError(f"{path} holds {found}; use the adapter of this model")
    named = values.get("target_modules")
    kinds = {str(name).rpartition(".")[2] for name in named} if isinstance(named, list) else set()
    unused = kinds - set(map(_module, factors))
    if unused:
        raise CheckpointError(f"{path / WEIGHTS} lacks the factors of {some(sorted(unused))}")
    return Adapter(factors, scale)


def _module(path: Path) -> str:
    """PEFT's name for the kind of matrix at a path, e.g. "q_proj"."""
    return path[-2] if path[-1] == "kernel" else path[-1]


def _checked(path: pathlib.Path, values: Mapping[str, Any]) -> tuple[int, float]:
    """Rank and scale of a supported configuration."""
    if values.get("peft_type") != "LORA":
        raise ConfigError(
            f"{path / CONFIG}: peft_type={values.get('peft_type')!r} is not supported; only 'LORA'"
        )
    for key, plain in _PLAIN.items():
        if values.get(key, plain[0]) not in plain:
            raise ConfigError(
                f"{path / CONFIG}: {key}={values[key]!r} is not supported; merge the adapter into "
                "its model with PEFT's merge_and_unload and load that"
            )
    rank, alpha = values.get("r"), values.get("lora_alpha")
    if not (isinstance(rank, int) and rank >= 1 and isinstance(alpha, int | float)):
        raise ConfigError(f"{path / CONFIG}: r={rank!r} and lora_alpha={alpha!r} must be numbers")
    return rank, alpha / (rank**0.5 if values.get("use_rslora") else rank)


def save_adapter(
    directory: str | os.PathLike[str],
    config: ModelConfig,
    factors: Mapping[Path, tuple[np.ndarray, np.ndarray]],
    *,
    base: str,
) -> None:
    """Writes an adapter of scale 1 in bfloat16, for `load_adapter` and PEFT.

    Args:
      directory: created if it does not exist.
      config: configuration of the adapter's model.
      factors: see `Adapter`; all of one rank.
      base: name or directory of the adapter's model, for PEFT.

    Raises:
      ConfigError: there are no factors, or factors of several ranks.
    """
    import ml_dtypes

    ranks = {factor.shape[0] for _, factor in factors.values()}
    if len(ranks) != 1:
        raise ConfigError(f"the factors of an adapter must have one rank; got {sorted(ranks)}")
    path = pathlib.Path(directory)
    path.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for name, spec in family_of(config).tensors(config).items():
        if spec.path in factors:
            for letter, factor in zip("AB", factors[spec.path], strict=True):
                key = f"{_PREFIX}{name.removesuffix(_MATRIX)}.lora_{letter}{_MATRIX}"
                tensors[key] = np.ascontiguousarray(np.asarray(factor).T.astype(ml_dtypes.bfloat16))
    rank = ranks.pop()
    content = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
        "target_modules": sorted(set(map(_module, factors))),
    }
    # The configuration is written last, so that an interrupted save cannot be loaded.
    (path / CONFIG).unlink(missing_ok=True)
    save_file(tensors, path / WEIGHTS, metadata={"format": "pt"})
    (path / CONFIG).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    # safetensors creates files that only their owner can read.
    (path / WEIGHTS).chmod((path / CONFIG).stat().st_mode)
