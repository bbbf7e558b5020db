"""Compiles `prefill` and `advance` for TPUs that are not attached, without weights."""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rsd_jax.core.sharding import DATA, MODEL, MeshLayout
from rsd_jax.core.types import LoadedModel, Params
from rsd_jax.engine.decoding import UNLIMITED, advance, prefill
from rsd_jax.engine.job import Job, prepare
from rsd_jax.engine.methods import Method
from rsd_jax.engine.request import Request
from rsd_jax.engine.state import DecodeState
from rsd_jax.errors import ConfigError
from rsd_jax.models.families import family_of
from rsd_jax.models.kv_heads import split_kv_heads
from rsd_jax.models.loading import build_model
from rsd_jax.models.shapes import NAMED_CONFIGS

_DTYPE = "bfloat16"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chips:
    """A slice of TPUs and the mesh on it.

    Attributes:
      topology: name of the slice, e.g. "v5e:2x4".
      mesh: sizes of the axes "data" and "model".
      hbm: bytes of memory of a chip.
    """

    topology: str
    mesh: tuple[int, int]
    hbm: int

    def layout(self) -> MeshLayout:
        """The mesh, of devices that need not exist.

        Raises:
          ConfigError: jax has no compiler for TPUs here, or the slice has another number of chips.
        """
        one = {"chips_per_host_bounds": (1, 1, 1)} if self.topology.endswith(":1x1") else {}
        try:
            chips = topologies.get_topology_desc(
                platform="tpu", topology_name=self.topology, **one
            ).devices
        except Exception as error:  # of several kinds, from the plug-in of TPUs
            raise ConfigError(
                f"cannot compile for {self.topology} ({str(error).splitlines()[0]}); run "
                'pip install "jax[tpu]" in an environment of its own'
            ) from None
        if len(chips) != self.mesh[0] * self.mesh[1]:
            raise ConfigError(f"{self.topology} has {len(chips)} chips, not a mesh of {self.mesh}")
        return MeshLayout.of(Mesh(np.array(chips).reshape(self.mesh), (DATA, MODEL)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compiled:
    """The programs of a method.

    Attributes:
      prefill, advance: from `jax.stages`.
      state: the state between them, arrays without values.
      params: of the models, arrays without values.
      seconds: of lowering and compiling both.
    """

    prefill: Any
    advance: Any
    state: DecodeState
    params: Params
    seconds: float


def abstract_model(name: str, layout: MeshLayout, *, layers: int | None = None) -> LoadedModel:
    """A model of a named shape whose parameters have shapes and places, but no values.

    Args:
      name: in `NAMED_CONFIGS`.
      layout: where the parameters would be.
      layers: number of layers, if it is to differ from the shape's.
    """
    config = NAMED_CONFIGS[name]
    if layers is not None:
        config = dataclasses.replace(config, num_layers=layers)
    model = split_kv_heads(build_model(config, dtype=_DTYPE, layout=layout), layout, name)
    family, stored, flat = family_of(config), model.stored_config, {}
    for spec in family.tensors(stored).values():
        place = layout.spec(*family.axes(stored, spec.path))
        flat[spec.path] = _array(spec.shape, jnp.dtype(_DTYPE), NamedSharding(layout.mesh, place))
    return LoadedModel(model, flax.traverse_util.unflatten_dict(flat), layout)


def compile_programs(
    method: Method, target: LoadedModel, draft: LoadedModel, *, batch: int, capacity: int
) -> Compiled:
    """Compiles both programs of a method.

    Args:
      method: from `build_method`.
      target, draft: from `abstract_model`, on one mesh.
      batch: rows.
      capacity: positions of the caches, nearly.
    """
    begin = time.perf_counter()
    margin = 4 * (method.drafter.shape.depth + 1)
    request = Request.of(
        [[1] * (capacity // 2)] * batch,
        max_new_tokens=capacity - capacity // 2 - margin,
        temperature=0.7,
    )
    job = prepare(method, target, draft, request)
    first = job.batches[0]
    inputs = jax.tree.map(lambda array: _everywhere(array, job), (job.seed, first.prompts))
    params = jax.tree.map(lambda leaf: _everywhere(leaf, job), job.params)
    filled = prefill.lower(job.engine, params, *inputs).compile()
    shapes = jax.eval_shape(lambda *given: prefill(job.engine, *given), params, *inputs)
    state = jax.tree.map(
        lambda leaf, place: _array(leaf.shape, leaf.dtype, place), shapes, filled.output_shardings
    )
    options = jax.tree.map(lambda leaf: _everywhere(leaf, job), job.options)
    bounds = [_everywhere(bound, job) for bound in (np.int32(1), UNLIMITED)]
    looped = advance.lower(job.engine, params, state, options, *bounds).compile()
    seconds = time.perf_counter() - begin
    return Compiled(prefill=filled, advance=looped, state=state, params=params, seconds=seconds)


def _array(shape: Sequence[int], dtype: Any, place: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(tuple(shape), dtype, sharding=place)


def _everywhere(array: Any, job: Job) -> jax.ShapeDtypeStruct:
    """An array without values; on all chips, unless the array has a place."""
    if isinstance(array, jax.ShapeDtypeStruct):
        return array
    layout = job.engine.layout
    assert layout is not None
    place = NamedSharding(layout.mesh, PartitionSpec())
    dtype = array.dtype if hasattr(array, "dtype") else np.asarray(array).dtype
    return jax.ShapeDtypeStruct(np.shape(array), dtype, sharding=place)


def local_shape(array: jax.ShapeDtypeStruct) -> tuple[int, ...]:
    """The shape of the part on one chip."""
    place = array.sharding
    assert place is not None
    shape: tuple[int, ...] = place.shard_shape(array.shape)
    return shape


def bytes_per_chip(tree: Any) -> int:
    """Bytes of all arrays of a tree on one chip."""
    leaves = jax.tree.leaves(tree)
    return sum(int(np.prod(local_shape(leaf))) * leaf.dtype.itemsize for leaf in leaves)
