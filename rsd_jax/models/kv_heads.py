"""Models with fewer key/value heads than a mesh has devices along its axis "model"."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from rsd_jax.core.sharding import MeshLayout
from rsd_jax.errors import ConfigError
from rsd_jax.models.decoder import DecoderModel
from rsd_jax.models.family import Axes, Network
from rsd_jax.models.stored_parameter import Index


def split_kv_heads(model: Network, layout: MeshLayout | None, name: str) -> Network:
    """The model, which stores each key/value head as often as the mesh needs.

    An axis of c H devices, which divides the query heads, gets c copies of each of the H heads. The
    query heads of one key/value head are thus split over c devices.

    Args:
      model: from `build_model`.
      layout: the mesh that the model lives on; None for one device.
      name: of the model, for the error.

    Raises:
      ConfigError: see `check_split`.
    """
    if layout is None or not isinstance(model, DecoderModel):
        return model
    check_split(model.config, layout, name)
    shards, kv_heads = layout.model_shards, model.config.num_kv_heads
    if kv_heads % shards == 0:
        return model
    return dataclasses.replace(model, kv_copies=shards // kv_heads)


def check_split(config: Any, layout: MeshLayout | None, name: str, *, copies: bool = True) -> None:
    """Checks that the axis "model" splits heads and MLP evenly.

    Args:
      config: of the model; one without heads splits into any number of parts.
      layout: the mesh; None for one device.
      name: of the model, for the error.
      copies: whether key/value heads may be held more than once, as in decoding.

    Raises:
      ConfigError: it does not; names the axis and the sizes that fit.
    """
    kv_heads = getattr(config, "num_kv_heads", None)
    if layout is None or layout.model_shards == 1 or kv_heads is None:
        return
    heads, mlp, shards = config.num_heads, config.intermediate_size, layout.model_shards

    def fits(size: int) -> bool:
        copied = copies and size % kv_heads == 0 and heads % size == 0
        return (kv_heads % size == 0 or copied) and mlp % size == 0

    if fits(shards):
        return
    fitting = [size for size in range(1, heads + 1) if fits(size)]
    whole = " A draft may be whole on every device: replicate_draft=True." if copies else ""
    raise ConfigError(
        f"{name}: the mesh axis 'model' has {shards} devices, which do not split its {heads} query "
        f"heads, {kv_heads} key/value heads and {mlp} columns of the MLP evenly. Sizes of the axis "
        f"that fit: {', '.join(map(str, fitting))}.{whole}"
    )


def with_kv_copies(array: Any, axes: Axes, copies: int) -> Any:
    """A parameter in which every key/value head stands `copies` times, one after the other.

    Args:
      array: of numpy or JAX.
      axes: of the parameter, see `Family.axes`.
      copies: at least 1.
    """
    for dim, (axis, heads) in enumerate(zip(*axes, strict=True)):
        if axis == "kv_heads" and copies > 1:
            shape = array.shape
            by_head = array.reshape(*shape[:dim], heads, -1, *shape[dim + 1 :])
            by_head = by_head.repeat(copies, axis=dim)
            array = by_head.reshape(*shape[:dim], copies * shape[dim], *shape[dim + 1 :])
    return array


def read_kv_copies(
    read: Callable[[Index], np.ndarray], shape: tuple[int, ...], axes: Axes, copies: int
) -> tuple[Callable[[Index], np.ndarray], tuple[int, ...]]:
    """`with_kv_copies` of a parameter that is read by parts.

    Args:
      read: gives a part of the parameter.
      shape: of the parameter.
      axes, copies: as in `with_kv_copies`.

    Returns:
      a function that gives a part of the parameter with copies, and the shape of the latter. Of the
      parameter itself it reads only the heads that the part has copies of.
    """
    names, heads = axes
    if copies == 1 or "kv_heads" not in names:
        return read, shape
    dim = names.index("kv_heads")
    width = shape[dim] // heads[dim]  # numbers of a head
    group = width * copies  # of a head with its copies

    def read_copies(index: Index) -> np.ndarray:
        first, last = index[dim].start // group, -(-index[dim].stop // group)
        own = slice(first * width, last * width)
        part = read((*index[:dim], own, *index[dim + 1 :]))
        counts = (*heads[:dim], last - first, *heads[dim + 1 :])
        copied = with_kv_copies(part, (names, counts), copies)
        cut = slice(index[dim].start - first * group, index[dim].stop - first * group)
        found: np.ndarray = copied[(slice(None),) * dim + (cut,)]
        return found

    return read_copies, (*shape[:dim], copies * shape[dim], *shape[dim + 1 :])
