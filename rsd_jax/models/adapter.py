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
from safetensors.numpy import save

from rsd_jax.errors import CheckpointError, ConfigError
from rsd_jax.models.adapter_config import (
    CONFIG,
    MERGE,
    WEIGHTS,
    rank_and_scale,
    read_adapter_config,
)
from rsd_jax.models.families import family_of
from rsd_jax.models.family import ModelConfig, Path, TensorSpec
from rsd_jax.models.stored_parameter import Index
from rsd_jax.models.weight_files import (
    HEAD,
    MATRIX,
    existing_directory,
    open_file,
    some,
    table_name,
)
from rsd_jax.records.complete_files import complete_file

_PREFIX = "base_model.model."


@dataclasses.dataclass(frozen=True)
class Adapter:
    """The factors that are added to kernels.

    Attributes:
      directory: of the adapter, for error messages.
      factors: by path of the kernel [in, out]: A f32[in, r] and B f32[r, out].
      scales: s by path of the kernel.
      tables: parameters that the adapter holds whole, by path.
    """

    directory: pathlib.Path
    factors: Mapping[Path, tuple[np.ndarray, np.ndarray]]
    scales: Mapping[Path, float]
    tables: Mapping[Path, np.ndarray]

    def added_to(self, path: Path, value: np.ndarray, index: Index = ()) -> np.ndarray:
        """A part of a parameter with what the adapter adds, rounded once to its dtype.

        Args:
          path: of the parameter.
          value: a kernel [in, out] becomes the kernel plus the adapter's product; every other
            parameter stays as it is.
          index: of the part `value` within the parameter; empty for the whole parameter.

        Raises:
          ConfigError: the adapter holds this parameter whole, with other values.
        """
        own = self.tables.get(path)
        if own is not None and not np.array_equal(own[index].astype(value.dtype), value):
            raise ConfigError(
                f"{self.directory} replaces the model's {'/'.join(path)}, which is not supported; "
                f"{MERGE}"
            )
        if path not in self.factors:
            return value
        a, b = self.factors[path]
        if index:
            a, b = a[index[0]], b[:, index[1]]
        adapted: np.ndarray = value.astype(np.float32) + np.float32(self.scales[path]) * (a @ b)
        return adapted.astype(value.dtype)


def load_adapter(directory: str | os.PathLike[str], config: ModelConfig) -> Adapter:
    """Reads adapter_config.json and adapter_model.safetensors, as PEFT writes them.

    Args:
      directory: directory of the adapter.
      config: configuration of the adapter's model.

    Raises:
      CheckpointError: files are missing or damaged, or hold tensors that the model does not have;
        the message names the files or tensors.
      ConfigError: the adapter uses an option that is not supported, or holds a table of another
        shape than the model's; the message names the key or the table.
    """
    path = existing_directory(directory)
    values = read_adapter_config(path)
    factors, scales = {}, {}
    specs = family_of(config).tensors(config)
    with contextlib.ExitStack() as stack:
        file = open_file(path / WEIGHTS, stack)
        left = set(file.keys())
        for name, spec in specs.items():
            module = name.removesuffix(MATRIX)
            keys = tuple(f"{_PREFIX}{module}.lora_{letter}{MATRIX}" for letter in "AB")
            if not spec.transposed or left.isdisjoint(keys):
                continue
            if absent := sorted(set(keys) - left):
                raise CheckpointError(f"{path / WEIGHTS} lacks {absent[0]}; copy it again")
            a, b = (file.get_tensor(key).astype(np.float32) for key in keys)
            rank, scales[spec.path] = rank_and_scale(path, values, module)
            if (a.shape, b.shape) != ((rank, spec.stored[1]), (spec.stored[0], rank)):
                raise CheckpointError(
                    f"{path}: the factors of {name} have shapes {list(a.shape)} and "
                    f"{list(b.shape)}; rank {rank} and a matrix {list(spec.stored)} need "
                    f"{[rank, spec.stored[1]]} and {[spec.stored[0], rank]}"
                )
            factors[spec.path] = (a.T, b.T)
            left -= set(keys)
        tables = _tables(path, file, left, specs)
    if left or not factors:
        found = f"{some(sorted(left))}, which this model does not have" if left else "no factors"
        raise CheckpointError(f"{path} holds {found}; use the adapter of this model")
    _check_all_there(path, values, factors, specs)
    return Adapter(path, factors, scales, tables)


def _tables(
    path: pathlib.Path, file: Any, left: set[str], specs: Mapping[str, TensorSpec]
) -> dict[Path, np.ndarray]:
    """The parameters that the file holds whole; their keys are removed from `left`."""
    if embedded := sorted(key for key in left if ".lora_embedding_" in key):
        raise ConfigError(
            f"{path} adapts an embedding ({embedded[0]}), which is not supported; {MERGE}"
        )
    tables, embedding = {}, table_name(specs)
    for name in (embedding, HEAD):
        key = f"{_PREFIX}{name}"
        if key not in left:
            continue
        # A tied model has one table, whose name is that of the embedding.
        spec = specs.get(name, specs[embedding])
        table = file.get_tensor(key)
        if table.shape != spec.stored:
            raise ConfigError(
                f"{path} holds {name} of shape {list(table.shape)}, the model's is "
                f"{list(spec.stored)}; {MERGE}"
            )
        tables[spec.path] = table.T if spec.transposed else table
        left.discard(key)
    return tables


def _check_all_there(
    path: pathlib.Path,
    values: Mapping[str, Any],
    factors: Mapping[Path, Any],
    specs: Mapping[str, TensorSpec],
) -> None:
    """Checks that the kinds of matrices in `target_modules` have factors.

    As in PEFT, kinds that the model does not have may stand in the list.
    """
    named = values.get("target_modules")
    kinds = {str(name).rpartition(".")[2] for name in named} if isinstance(named, list) else set()
    own = {_module(spec.path) for spec in specs.values() if spec.transposed}
    if unused := (kinds & own) - set(map(_module, factors)):
        raise CheckpointError(f"{path / WEIGHTS} lacks the factors of {some(sorted(unused))}")


def _module(path: Path) -> str:
    """PEFT's name for the kind of matrix at a path, e.g. "q_proj"."""
    return path[-2] if path[-1] == "kernel" else path[-1]


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
      OSError: the disk is full, or cannot be written to; an older adapter stays as it is.
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
                key = f"{_PREFIX}{name.removesuffix(MATRIX)}.lora_{letter}{MATRIX}"
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
    with complete_file(path / CONFIG) as config_file:
        config_file.write((json.dumps(content, indent=2, sort_keys=True) + "\n").encode())
        config_file.flush()
        with complete_file(path / WEIGHTS) as weights_file:
            weights_file.write(save(tensors, metadata={"format": "pt"}))
            weights_file.flush()
            # All bytes are written. Between the two renames, nothing can be loaded.
            (path / CONFIG).unlink(missing_ok=True)
