"""Loading models: from a Hugging Face directory, or the pair that ships with the package."""

import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rsd_jax.errors import ConfigError
from rsd_jax.job import LoadedModel
from rsd_jax.models.attention import ACCELERATOR_READS, CPU_READS
from rsd_jax.models.checkpoint import load_params, read_config
from rsd_jax.models.llama import LlamaModel
from rsd_jax.models.partition import param_axes
from rsd_jax.sharding import MeshLayout

_DTYPES = ("float32", "bfloat16")
_ASSETS = pathlib.Path(__file__).parent / "assets"
_PAIRS = ("quickstart",)


def load_model(
    path: str | pathlib.Path, *, dtype: Any = "float32", mesh: jax.sharding.Mesh | None = None
) -> LoadedModel:
    """Loads a Hugging Face `LlamaForCausalLM` directory.

    Args:
      path: holds config.json and safetensors, single or sharded with an index.
      dtype: of parameters and caches: float32 or bfloat16. Probabilities are float32 always.
      mesh: axes "data" (rows) and "model" (heads, wide dimensions), e.g.
        `jax.make_mesh((4, 2), ("data", "model"))`; None for one device.

    Raises:
      CheckpointError: the directory or a file is missing, truncated or wrongly shaped.
      ConfigError: an unsupported config value, dtype or mesh.
    """
    name = jnp.dtype(dtype).name
    if name not in _DTYPES:
        raise ConfigError(f"dtype={name!r} is not supported; choose one of {list(_DTYPES)}")
    layout = None if mesh is None else MeshLayout.of(mesh)
    config = read_config(path)

    def place(names: tuple[str, ...], array: np.ndarray) -> jax.Array:
        if layout is None:
            return jnp.asarray(array)
        return layout.place(array, *param_axes(config, names))

    params = load_params(path, config, dtype=name, place=place)
    reads = CPU_READS if jax.default_backend() == "cpu" else ACCELERATOR_READS
    return LoadedModel(LlamaModel(config, dtype=name, reads=reads), params, layout)


@dataclasses.dataclass(frozen=True)
class LoadedPair:
    """A target, its draft and their tokenizer.

    Attributes:
      target, draft: models of one vocabulary.
      tokenizer: a transformers tokenizer.
    """

    target: LoadedModel
    draft: LoadedModel
    tokenizer: Any


def load_pair(
    name: str, *, dtype: Any = "float32", mesh: jax.sharding.Mesh | None = None
) -> LoadedPair:
    """Loads a pair that ships with the package.

    Args:
      name: "quickstart": a small Llama and its draft, trained on the CPython standard library.
      dtype, mesh: see `load_model`.

    Raises:
      ConfigError: no such pair.
    """
    if name not in _PAIRS:
        raise ConfigError(f"unknown pair {name!r}; pairs that ship: {list(_PAIRS)}")
    import transformers

    directory = _ASSETS / name
    return LoadedPair(
        target=load_model(directory / "target", dtype=dtype, mesh=mesh),
        draft=load_model(directory / "draft", dtype=dtype, mesh=mesh),
        tokenizer=transformers.AutoTokenizer.from_pretrained(directory / "target"),
    )
