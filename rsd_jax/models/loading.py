"""Loads models and tokenizers from Hugging Face directories, GGUF files and the Hub."""

import dataclasses
import functools
import pathlib
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from rsd_jax.core.backend import backend_of
from rsd_jax.core.sharding import MeshLayout
from rsd_jax.core.types import LoadedModel
from rsd_jax.errors import CheckpointError, ConfigError, positive_integer
from rsd_jax.models.adapter import load_adapter
from rsd_jax.models.checkpoint import load_params, read_config
from rsd_jax.models.dtypes import computed_dtype, dtype_name
from rsd_jax.models.ends import end_ids
from rsd_jax.models.families import family_of
from rsd_jax.models.family import ModelConfig, Network, Path
from rsd_jax.models.gguf_files import is_gguf, read_gguf
from rsd_jax.models.hub import local_path, origin_of
from rsd_jax.models.kv_heads import read_kv_copies, split_kv_heads, with_kv_copies
from rsd_jax.models.shapes import NAMED_CONFIGS
from rsd_jax.models.stored_parameter import Index, StoredParameter
from rsd_jax.models.token_map import on_mapped_tokens, read_token_map
from rsd_jax.models.weight_files import existing_directory
from rsd_jax.text.gguf_tokenizer import tokenizer_from_gguf

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")


def load_model(
    path: str | pathlib.Path,
    *,
    dtype: Any = "float32",
    compute_dtype: Any = None,
    mesh: jax.sharding.Mesh | None = None,
    replicated: bool = False,
    adapter: str | pathlib.Path | None = None,
    progress: bool = False,
) -> LoadedModel:
    """Loads a model of a family in `rsd_jax.models.families.FAMILIES`.

    Args:
      path: a Hugging Face directory with config.json and safetensors, single or sharded with an
        index, and token_map.json if it is a draft that knows only some tokens of its target (see
        `rsd_jax.models.token_map`); or a GGUF file, whose quantised weights become floats of
        `dtype`; or a name on the Hugging Face Hub, "owner/name" or "owner/name@revision", see
        `hub_name`.
      dtype: of the weights: "float32", "bfloat16", or "auto" for float32 on a CPU and bfloat16
        elsewhere; see `dtype_name`. Probabilities are always float32.
      compute_dtype: of arithmetic, of the parameters in memory and of caches; None for `dtype`, but
        on a CPU for float32 where it fits in memory, see `computed_dtype`.
      mesh: axes "data" (rows) and "model" (heads, wide dimensions), e.g.
        `jax.make_mesh((4, 2), ("data", "model"))`; None for one device.
      replicated: whether every device of the axis "model" has the whole model and its caches, as
        may pay for a small draft: its passes then have no collectives (docs/performance.md).
      adapter: directory of a low-rank adapter in PEFT's format, which is added to the weights.
      progress: whether a bar on standard error, where that is a terminal, counts the parameters.

    Raises:
      CheckpointError: the directory or a file is missing, truncated or wrongly shaped; or the Hub
        does not give the model.
      ConfigError: a configuration value, dtype, mesh or adapter is not supported.
    """
    files = local_path(path)
    config = read_config(files)
    layout = _layout(mesh, replicated)
    backend = backend_of(layout)
    stored = dtype_name(dtype, backend)
    computed = computed_dtype(
        stored, compute_dtype, backend=backend, num_parameters=config.num_parameters
    )
    model = split_kv_heads(build_model(config, dtype=computed, layout=layout), layout, str(path))
    family, added = family_of(config), None if adapter is None else load_adapter(adapter, config)

    def place(names: Path, stored: StoredParameter) -> jax.Array:
        def read(index: Index) -> np.ndarray:
            if added is None:
                return stored.read(index, computed)
            return added.added_to(names, stored.read(index), index).astype(computed, copy=False)

        if layout is None:
            return jnp.asarray(read(tuple(slice(0, size) for size in stored.shape)))
        axes = family.axes(config, names)
        parts, shape = read_kv_copies(read, stored.shape, axes, model.kv_copies)
        return layout.place_parts(parts, shape, *family.axes(model.stored_config, names))

    tokens = None if is_gguf(files) else read_token_map(files, config.vocab_size)
    params = load_params(files, config, dtype=stored, place=place, progress=progress)
    loaded = LoadedModel(model, params, layout, origin_of(path))
    return loaded if tokens is None else on_mapped_tokens(loaded, tokens.draft_ids)


def ends_of(target: LoadedModel, tokenizer: Any) -> tuple[int, ...]:
    """Ids that end an answer: those of config.json and generation_config.json, or the tokenizer's.

    Args:
      target: the model that answers.
      tokenizer: its tokenizer, of transformers.

    Raises:
      ConfigError: none of them has an end-of-sequence token.
    """
    return end_ids(getattr(target.model, "config", None), lambda: tokenizer)


def load_tokenizer(path: str | pathlib.Path) -> Any:
    """The tokenizer of transformers in a model directory or GGUF file, or of a model of the Hub.

    Args:
      path: as in `load_model`; a tokenizer's file, such as tokenizer.json, stands for its folder.

    Raises:
      ConfigError: the GGUF file's tokenizer is of an unknown kind.
      CheckpointError: the directory holds no tokenizer that transformers can read, or the Hub does
        not give the model.
    """
    import transformers

    files = tokenizer_path(path)
    if is_gguf(files):
        return tokenizer_from_gguf(read_gguf(files).metadata, str(files))
    folder = existing_directory(files)
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise CheckpointError(
            f"{folder} holds no tokenizer ({' or '.join(_TOKENIZER_FILES)}); copy the files of the "
            "model's tokenizer there, or name their folder as `tokenizer`"
        )
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        tokenizer("a", verbose=False)  # settings of wrong types show when a text is encoded
        return tokenizer
    except Exception as error:  # damaged files raise any error, bare exceptions too
        raise CheckpointError(f"the tokenizer in {folder} cannot be read: {error}") from error


def tokenizer_path(path: str | pathlib.Path) -> pathlib.Path:
    """The folder or GGUF file that `load_tokenizer` reads; errors as there."""
    files = local_path(path)
    return files.parent if files.name in _TOKENIZER_FILES and files.is_file() else files


def random_model(
    name: str,
    *,
    layers: int | None = None,
    dtype: Any = "float32",
    mesh: jax.sharding.Mesh | None = None,
    seed: int = 0,
) -> LoadedModel:
    """A model of a published shape with random weights, made on the device, for timing.

    Args:
      name: name in `rsd_jax.models.shapes.NAMED_CONFIGS`, e.g. "llama2_7b".
      layers: number of layers, if it is to differ from the shape's.
      dtype, mesh: see `load_model`.
      seed: seed of the weights.

    Raises:
      ConfigError: no such shape.
    """
    if name not in NAMED_CONFIGS:
        raise ConfigError(f"unknown shape {name!r}; known: {sorted(NAMED_CONFIGS)}")
    config = NAMED_CONFIGS[name]
    if layers is not None:
        config = dataclasses.replace(config, num_layers=positive_integer("layers", layers))
    layout, family = _layout(mesh), family_of(config)
    model = split_kv_heads(build_model(config, dtype=dtype, layout=layout), layout, name)
    specs = sorted({spec.path: spec.shape for spec in family.tensors(config).values()}.items())
    flat = {}
    for index, (path, shape) in enumerate(specs):
        key = jax.random.fold_in(jax.random.key(seed), index)
        flat[path] = _random_parameter(key, path[-1], shape, model.dtype)
        if layout is not None:
            copied = with_kv_copies(flat[path], family.axes(config, path), model.kv_copies)
            flat[path] = family.place(layout, model.stored_config, path, copied)
    return LoadedModel(model, flax.traverse_util.unflatten_dict(flat), layout)


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _random_parameter(key: jax.Array, kind: str, shape: tuple[int, ...], dtype: str) -> jax.Array:
    """1 for norm scales, 0 for biases, otherwise normal with standard deviation 0.02."""
    if kind in ("scale", "bias"):
        return jnp.full(shape, 1.0 if kind == "scale" else 0.0, dtype)
    return (0.02 * jax.random.normal(key, shape, jnp.dtype(dtype))).astype(dtype)


def _layout(mesh: jax.sharding.Mesh | None, replicated: bool = False) -> MeshLayout | None:
    return None if mesh is None else MeshLayout.of(mesh, replicated=replicated)


def build_model(config: ModelConfig, *, dtype: Any, layout: MeshLayout | None = None) -> Network:
    """The model of a configuration, without parameters, with the backend for its devices.

    Args:
      config: configuration of a family.
      dtype: see `dtype_name`.
      layout: the mesh that the model lives on or is compiled for; None for one device.

    Raises:
      ConfigError: the dtype is another.
    """
    backend = backend_of(layout)
    name = dtype_name(dtype, backend)
    return family_of(config).network(config, dtype=name, backend=backend)
