"""A Hugging Face model directory and the parameters of the model in it.

The headers of the files are checked before any tensor is read, so that errors are found at once.
Tensors are then placed one at a time, by parts, each cast and transposed as it is read: what no
device of this process holds is not read. The host holds one part at a time, besides what `place`
keeps on the host.
"""

import contextlib
import json
import math
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
from huggingface_hub import split_state_dict_into_shards_factory
from safetensors import SafetensorError
from safetensors.numpy import save_file

from rsd_jax.core.types import Params
from rsd_jax.errors import CheckpointError, ConfigError
from rsd_jax.models.ends import with_all_ends
from rsd_jax.models.families import config_from_json, family_of
from rsd_jax.models.family import ModelConfig, Path, TensorSpec
from rsd_jax.models.gguf_config import config_json
from rsd_jax.models.gguf_files import SUFFIX, is_gguf, read_gguf
from rsd_jax.models.gguf_weights import stored_tensors
from rsd_jax.models.stored_parameter import StoredParameter
from rsd_jax.models.weight_files import (
    ADAPTER_CONFIG,
    CONFIG,
    INDEX,
    WEIGHTS,
    check_tensors,
    existing_directory,
    open_weights,
    read_json,
    some,
    stored_under,
)

Place = Callable[[Path, StoredParameter], Any]
"""Puts one parameter on its devices: (path in the tree, parameter in its file) -> array."""


def read_config(directory: str | os.PathLike[str]) -> Any:
    """Reads `directory`/config.json, or the metadata of a GGUF file, to a `ModelConfig`.

    The ids that end an answer come from generation_config.json too, see `with_all_ends`.

    Raises:
      CheckpointError: the directory or file does not exist, or the file is not JSON or not GGUF.
      ConfigError: the model is not supported; the message names the key.
    """
    if is_gguf(directory):
        file = read_gguf(directory)
        return _named(file.path, lambda: config_from_json(config_json(file)))
    path = existing_directory(directory) / CONFIG
    if not path.is_file():
        raise CheckpointError(f"{path} is missing; {_instead(path.parent)}")
    raw = read_json(path)
    return _named(path.parent, lambda: with_all_ends(config_from_json(raw), raw, path.parent))


def _named(path: pathlib.Path, read: Callable[[], Any]) -> Any:
    """The result of `read`, whose `ConfigError` gets the path of the model."""
    try:
        return read()
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _instead(directory: pathlib.Path) -> str:
    """What a directory without a model seems to be, and what to give in its place."""
    if (directory / ADAPTER_CONFIG).is_file():
        return f"{directory} is an adapter: give the directory of its model, and this as adapter"
    models = [path.parent.name for path in sorted(directory.glob(f"*/{CONFIG}"))]
    if models:
        return f"{directory} holds the models {models}: give one of these folders"
    if files := sorted(path.name for path in directory.glob(f"*{SUFFIX}")):
        return f"{directory} holds the GGUF files {files}: give the path of one of them"
    return f"a model directory needs its {CONFIG}"


def _float_dtype(dtype: Any) -> np.dtype:
    try:
        kind = np.dtype(jnp.int32) if dtype is None else jnp.dtype(dtype)
    except TypeError:
        kind = np.dtype(jnp.int32)
    if not jnp.issubdtype(kind, jnp.floating):
        raise ConfigError(f"dtype={dtype!r} cannot hold weights; use 'float32' or 'bfloat16'")
    return kind


def load_params(
    directory: str | os.PathLike[str],
    config: ModelConfig,
    *,
    dtype: Any,
    place: Place | None = None,
    progress: bool = False,
) -> Params:
    """Loads the weights of `directory`, checked against `config` before anything is read.

    Args:
      directory: holds model.safetensors, or shards and model.safetensors.index.json. If both are
        there, model.safetensors is used, as in transformers. Or a GGUF file.
      config: from `read_config`.
      dtype: floating dtype that every parameter is cast to.
      place: receives each parameter's path, e.g. ("layers_0", "mlp", "up_proj", "kernel"), and
        the parameter, of which it reads what it needs, one at a time; by default puts all of it on
        the default device.
      progress: whether a bar on standard error, where that is a terminal, counts the parameters.

    Returns:
      The parameter tree of the family's network, leaves as returned by `place`.

    Raises:
      CheckpointError: files are missing, truncated or damaged; tensors are missing, unexpected,
        of the wrong shape or quantised. The message names the file or tensor and what to do.
      ConfigError: `dtype` is not a floating dtype.
    """
    kind = _float_dtype(dtype)
    if kind == np.float64 and jnp.result_type(float) != np.float64:
        raise ConfigError("dtype='float64' needs jax.enable_x64; use 'float32' or 'bfloat16'")
    place = place or (lambda _, stored: jnp.asarray(stored.read()))
    specs = family_of(config).tensors(config)
    params: dict[Path, jax.Array] = {}
    with contextlib.ExitStack() as stack:
        if is_gguf(directory):
            file = read_gguf(directory)
            path, found = file.path, stored_tensors(file)
        else:
            path = existing_directory(directory)
            found = open_weights(path, stack)
        check_tensors(path, found, {name: spec.stored for name, spec in specs.items()})
        for name, spec in _counted(specs, path, progress):
            stored = stored_under(name, found, specs)
            params[spec.path] = place(spec.path, StoredParameter(found[stored], stored, spec, kind))
    return flax.traverse_util.unflatten_dict(params)


def _counted(
    specs: Mapping[str, TensorSpec], path: pathlib.Path, progress: bool
) -> Iterable[tuple[str, TensorSpec]]:
    """The tensors one after the other, with a bar if `progress`."""
    if not progress:
        return specs.items()
    from tqdm import tqdm

    said = f"loading {path.resolve().name}"
    # None: no bar where standard error is a file or a pipe.
    return tqdm(specs.items(), desc=said, unit="tensor", leave=False, disable=None)


def _check_params(flat: Mapping[Path, Any], specs: Mapping[str, TensorSpec]) -> None:
    shapes = {spec.path: spec.shape for spec in specs.values()}
    if set(flat) != set(shapes):
        odd = sorted("/".join(path) for path in set(flat) ^ set(shapes))
        raise CheckpointError(
            f"params and config do not agree on {some(odd)}; save the params with their own config"
        )
    for path, shape in shapes.items():
        if tuple(flat[path].shape) != shape:
            raise CheckpointError(
                f"params hold {'/'.join(path)} of shape {list(flat[path].shape)}, expected "
                f"{list(shape)} by the config"
            )


def save_model(
    directory: str | os.PathLike[str],
    config: ModelConfig,
    params: Params,
    *,
    dtype: Any = "bfloat16",
    max_shard_bytes: int = 5 * 10**9,
) -> None:
    """Writes config.json and safetensors that transformers 4 and 5, and `load_params`, read.

    Every file is first written under a temporary name. Then config.json is removed, files of an
    earlier save are deleted, the weights are renamed, and config.json is renamed last. An
    interrupted save thus leaves the old model, or a directory without config.json, which cannot be
    loaded. Other files of the directory (the tokenizer) are not changed.

    Args:
      directory: created if it does not exist.
      config: of the model.
      params: the parameter tree of the family's network.
      dtype: floating dtype that is stored.
      max_shard_bytes: largest file size; a larger tensor is not split.

    Raises:
      CheckpointError: names or shapes of `params` do not match `config`.
      ConfigError: `dtype` is not a floating dtype, or `max_shard_bytes` is below 1.
      OSError: the disk is full, or cannot be written to; an older model stays as it is.
    """
    kind = _float_dtype(dtype)
    if max_shard_bytes < 1:
        raise ConfigError(f"max_shard_bytes={max_shard_bytes} must be at least 1")
    specs = family_of(config).tensors(config)
    flat = flax.traverse_util.flatten_dict(params)
    _check_params(flat, specs)
    target = pathlib.Path(directory)
    target.mkdir(parents=True, exist_ok=True)
    plan = split_state_dict_into_shards_factory(
        specs,
        get_storage_size=lambda spec: math.prod(spec.stored) * kind.itemsize,
        filename_pattern="model{suffix}.safetensors",
        max_shard_size=max_shard_bytes,
    )
    written: list[str] = []

    def temporary(name: str) -> pathlib.Path:
        written.append(name)
        return target / f".{name}.partial"

    try:
        for name, tensors in plan.filename_to_tensors.items():
            save_file(
                {t: _stored(flat[specs[t].path], specs[t], kind) for t in tensors},
                temporary(name),
                metadata={"format": "pt"},
            )
        if plan.is_sharded:
            index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
            temporary(INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
        # "torch_dtype" is version 4's name; version 5 reads it as "dtype".
        content = family_of(config).write_config(config) | {"torch_dtype": kind.name}
        temporary(CONFIG).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
        _replace(target, written)
    except SafetensorError as error:  # what the library makes of an error of the system
        raise OSError(f"the weights cannot be written to {target} ({error})") from None
    finally:
        for name in written:
            (target / f".{name}.partial").unlink(missing_ok=True)


def _stored(array: Any, spec: TensorSpec, dtype: np.dtype) -> np.ndarray:
    """One parameter as it is stored: on the host, [out, in], contiguous."""
    value = np.asarray(array).astype(dtype, copy=False)
    return np.ascontiguousarray(value.T if spec.transposed else value)


def _replace(directory: pathlib.Path, written: list[str]) -> None:
    """Renames the temporary files, in the order of `written`, whose last is config.json."""
    (directory / CONFIG).unlink(missing_ok=True)
    stale = {WEIGHTS, INDEX} | {p.name for p in directory.glob("model-*-of-*.safetensors")}
    for name in stale - set(written):
        (directory / name).unlink(missing_ok=True)
    # safetensors creates files that only their owner can read; config.json has default modes.
    mode = (directory / f".{CONFIG}.partial").stat().st_mode
    for name in written:
        partial = directory / f".{name}.partial"
        partial.chmod(mode)
        partial.replace(directory / name)
