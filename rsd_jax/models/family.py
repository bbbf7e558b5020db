"""The interface of model families: how models are read, written, placed and computed."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, Self

import jax

from rsd_jax.core.backend import Backend
from rsd_jax.core.sharding import MeshLayout
from rsd_jax.core.types import LanguageModel, ModelSizes, Params

Path = tuple[str, ...]
"""Path of a parameter in the tree, e.g. ("layers_0", "mlp", "up_proj", "kernel")."""

Axes = tuple[tuple[str | None, ...], tuple[int, ...]]
"""Logical axes of a parameter and, for each axis, the number of units; see `MeshLayout.spec`."""


class TensorSpec(NamedTuple):
    """One tensor of a checkpoint.

    Attributes:
      path: path of the parameter in the tree.
      stored: shape in the file; matrices of dense layers are stored [out, in].
      transposed: whether the parameter is the transpose, [in, out].
    """

    path: Path
    stored: tuple[int, ...]
    transposed: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the parameter."""
        return self.stored[::-1] if self.transposed else self.stored


class ModelConfig(ModelSizes, Protocol):
    """A frozen dataclass: shape and constants of a model.

    Attributes:
      model_type: the key of the family in `FAMILIES` and in config.json.
    """

    @property
    def model_type(self) -> str: ...

    @property
    def vocab_size(self) -> int: ...

    @property
    def num_layers(self) -> int: ...

    @property
    def bos_id(self) -> int | None: ...

    @property
    def eos_ids(self) -> tuple[int, ...]: ...


class Network(LanguageModel, Protocol):
    """A language model with weights, which can be trained."""

    @property
    def config(self) -> Any:
        """A `ModelConfig`."""
        ...

    @property
    def kv_copies(self) -> int:
        """How often parameters hold each key/value head."""
        return 1

    @property
    def stored_config(self) -> Any:
        """The configuration of the parameters as they are held, with all copies."""
        return self.config

    def init_params(self, key: jax.Array) -> Params:
        """Random float32 parameters."""
        ...

    def with_remat(self, remat: bool) -> Self:
        """The model with `remat`: whether a backward pass recomputes layers to save memory."""
        ...


class MakeNetwork(Protocol):
    """The constructor of a `Network`."""

    def __call__(self, config: Any, *, dtype: str, backend: Backend) -> Network: ...


@dataclasses.dataclass(frozen=True)
class Family:
    """The functions of a family for loading, saving, adapting and placing its models.

    Attributes:
      read_config: content of config.json to a `ModelConfig`; raises `ConfigError`, which names the
        key, for a key that the network does not implement.
      write_config: `ModelConfig` to the content of config.json.
      tensors: configuration to the tensors of a checkpoint, by name.
      axes: configuration and path of a parameter to its axes.
      network: configuration to the model.
    """

    read_config: Callable[[Mapping[str, Any]], Any]
    write_config: Callable[[Any], dict[str, Any]]
    tensors: Callable[[Any], dict[str, TensorSpec]]
    axes: Callable[[Any, Path], Axes]
    network: MakeNetwork

    def place(self, layout: MeshLayout, config: Any, path: Path, array: Any) -> jax.Array:
        """Puts one parameter on a mesh, shard by shard."""
        return layout.place(array, *self.axes(config, path))
