"""Meshes: one table from logical to mesh axes places everything that is sharded.

Rows of a batch go over "data", heads and wide dimensions over "model". The data axis is mapped
by hand (`jax.shard_map`), so that each shard stops when its own rows are done and nothing
crosses it; the model axis is left to the compiler. In training, a third axis "fsdp" splits the rows
further, and with them what "model" leaves whole of parameters and optimiser state; in decoding it
is a part of "data".
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from rsd_jax.errors import ConfigError

DATA = "data"
MODEL = "model"
FSDP = "fsdp"

LOGICAL_TO_MESH: dict[str, str | None] = {
    "batch": DATA,
    "heads": MODEL,
    "kv_heads": MODEL,
    "mlp": MODEL,
    "vocab": MODEL,
    "embed": FSDP,
    "positions": None,
    "head_dim": None,
}

_GATHERED_BYTES = 4 * 2**20  # of logits on a data shard; docs/performance.md has the arithmetic
_GATHER = "gather_logits"

CACHE_AXES = ("batch", "kv_heads", "positions", "head_dim")
"""Logical axes of key/value buffers [B, H, S or M, K]."""


@dataclasses.dataclass(frozen=True)
class MeshLayout:
    """A mesh with axes "data" and "model", perhaps "fsdp", and what goes over them; hashable.

    Attributes:
      mesh: all axes of type Auto, whatever the user's mesh had.
      replicated: whether nothing is split over "model": every device of that axis has the whole
        model and the caches of all heads, so that a pass of the model has no collectives.
    """

    mesh: Mesh
    replicated: bool = False

    @classmethod
    def of(cls, mesh: Mesh, *, replicated: bool = False, training: bool = False) -> "MeshLayout":
        """Takes any mesh; `jax.make_mesh` gives Explicit axes, which a plain program rejects.

        Args:
          mesh: axes "data", "model" and "fsdp" in any order; a missing one has size 1.
          replicated: see the attribute.
          training: whether an axis "fsdp" stays; else its devices belong to "data".

        Raises:
          ConfigError: an axis has another name.
        """
        unknown = [name for name in mesh.axis_names if name not in (DATA, FSDP, MODEL)]
        if unknown:
            raise ConfigError(
                f"mesh axes {unknown} are not known; name the axes {DATA!r} and {MODEL!r}, and "
                f"{FSDP!r} in training, e.g. "
                f'jax.make_mesh((4, 2), ("{DATA}", "{MODEL}"))'
            )
        devices, names = mesh.devices, mesh.axis_names
        if FSDP in names:  # behind "data", so that both meshes have one order of devices
            order = [name for name in (DATA, FSDP, MODEL) if name in names]
            devices = devices.transpose([names.index(name) for name in order])
            sizes = dict(zip(order, devices.shape, strict=True))
            data, fsdp, model = (sizes.get(name, 1) for name in (DATA, FSDP, MODEL))
            names = (DATA, FSDP, MODEL) if training and fsdp > 1 else (DATA, MODEL)
            devices = devices.reshape((data, fsdp, model) if len(names) == 3 else (-1, model))
        # A missing axis has size 1, so that everything below meets both.
        missing = [name for name in (DATA, MODEL) if name not in names]
        devices = devices.reshape(devices.shape + (1,) * len(missing))
        names = (*names, *missing)
        return cls(Mesh(devices, names, axis_types=(AxisType.Auto,) * len(names)), replicated)

    @property
    def data_shards(self) -> int:
        """Devices along the data axis; batches are padded to a multiple of it."""
        return int(self.mesh.shape[DATA])

    @property
    def model_shards(self) -> int:
        """Parts that a model is split into: devices along the model axis, 1 if replicated."""
        return 1 if self.replicated else int(self.mesh.shape[MODEL])

    @property
    def fsdp_shards(self) -> int:
        """Devices along the axis "fsdp", which split the rows of a data shard in training."""
        return int(self.mesh.shape.get(FSDP, 1))

    def spec(self, axes: tuple[str | None, ...], sizes: tuple[int, ...]) -> PartitionSpec:
        """Where an array goes.

        Args:
          axes: logical axis of each dimension, None for replicated.
          sizes: how many units of each dimension must stay whole: heads, not scalars. A
            dimension whose units do not divide the mesh axis is replicated.

        Raises:
          ConfigError: two dimensions claim one mesh axis.
        """
        names: list[str | None] = []
        for axis, size in zip(axes, sizes, strict=True):
            name = LOGICAL_TO_MESH[axis] if axis is not None else None
            name = None if self.replicated and name == MODEL else name
            shards = int(self.mesh.shape.get(name, 1)) if name is not None else 1
            names.append(name if shards > 1 and size % shards == 0 else None)
        if names.count(FSDP) == 2:  # a table that is whole otherwise: only its width
            names[names.index(FSDP)] = None
        taken = [name for name in names if name is not None]
        if len(taken) != len(set(taken)):
            raise ConfigError(f"logical axes {axes} claim a mesh axis twice: {names}")
        return PartitionSpec(*names)

    def rows_spec(self, rank: int) -> PartitionSpec:
        """Where a batch [B, ...] of this rank goes in training: rows over "data" and "fsdp"."""
        rows = (DATA, FSDP) if self.fsdp_shards > 1 else DATA
        return PartitionSpec(rows, *[None] * (rank - 1))

    def place(self, array: Any, axes: tuple[str | None, ...], sizes: tuple[int, ...]) -> jax.Array:
        """Puts one array on the mesh, shard by shard; each process has the whole array."""
        if isinstance(array, np.ndarray):
            return self.place_parts(array.__getitem__, array.shape, axes, sizes)
        return jax.device_put(array, NamedSharding(self.mesh, self.spec(axes, sizes)))

    def place_parts(
        self,
        read: Callable[[tuple[slice, ...]], np.ndarray],
        shape: tuple[int, ...],
        axes: tuple[str | None, ...],
        sizes: tuple[int, ...],
    ) -> jax.Array:
        """Puts an array on the mesh that no host needs to hold as a whole.

        Args:
          read: gives a part of the array, by a slice with start and stop for each dimension. It is
            called once for each part that devices of this process hold, and one part at a time is
            on the host.
          shape: of the whole array.
          axes, sizes: see `spec`.
        """
        sharding = NamedSharding(self.mesh, self.spec(axes, sizes))
        holders: dict[tuple[tuple[int, int], ...], list[jax.Device]] = {}
        for device, index in sharding.addressable_devices_indices_map(shape).items():
            bounds = tuple(
                each.indices(size)[:2] for each, size in zip(index or (), shape, strict=True)
            )
            holders.setdefault(bounds, []).append(device)
        shards: list[jax.Array] = []
        for bounds, devices in holders.items():
            part = read(tuple(slice(*each) for each in bounds))
            # Waits, as a transfer that goes on would keep the part on the host.
            shards += jax.block_until_ready([jax.device_put(part, device) for device in devices])
        return jax.make_array_from_single_device_arrays(shape, sharding, shards)

    def place_buffers(self, state: Any, *, within_rows: bool = False) -> Any:
        """Inside a program: lays out every leaf of a decode state by the table.

        Leaves have a leading batch axis; those of rank 4 are key/value buffers.

        Args:
          state: a pytree of arrays.
          within_rows: whether this runs on one data shard, inside `over_rows`. Pinned in the
            loop too, or the compiler may shard a cache there that the table replicates, and
            gather it.
        """

        def constrain(leaf: jax.Array) -> jax.Array:
            axes = CACHE_AXES if leaf.ndim == 4 else ("batch",) + (None,) * (leaf.ndim - 1)
            spec = self.spec(axes, leaf.shape)
            if within_rows:
                spec = PartitionSpec(*(None if name == DATA else name for name in spec))
                return jax.lax.with_sharding_constraint(leaf, spec)
            return jax.lax.with_sharding_constraint(leaf, NamedSharding(self.mesh, spec))

        return jax.tree.map(constrain, state)


def over_rows(
    layout: MeshLayout | None, place: Callable[[Any], Any] | None = None
) -> Callable[[Any], Any]:
    """Decorates a function of pytrees so that each data shard runs it on its own rows.

    What is passed by name has rows, a leading batch axis in every leaf, and so has the result;
    what is passed by position is the same for all shards.

    Args:
      layout: None leaves the function alone.
      place: lays out the result; by default `layout.place_buffers`.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        if layout is None:
            return function

        @functools.wraps(function)
        def mapped(*shared: Any, **rows: Any) -> Any:
            run = _on_shards(layout, function, PartitionSpec(), PartitionSpec(DATA), (DATA,))
            return (place or layout.place_buffers)(run(shared, rows))

        return mapped

    return decorate


def inside_rows() -> bool:
    """Whether the code runs on one data shard, inside `over_rows` or `mean_over_rows`."""
    return DATA in jax.sharding.get_abstract_mesh().manual_axes


def gather_logits(logits: jax.Array) -> jax.Array:
    """The same logits, whole on every device of the model axis if they are small.

    Sums over a vocabulary that is split cost an all-reduce each, and the steps of a bisection wait
    for one another's. One gather of a few MiB costs less. Larger logits stay split, as every device
    would read all of them in every step. Does nothing outside `over_rows`.

    Args:
      logits: f32[B, ..., V] of a data shard.
    """
    is_small = logits.size * logits.dtype.itemsize <= _GATHERED_BYTES
    if not (inside_rows() and is_small and jax.sharding.get_abstract_mesh().shape[MODEL] > 1):
        return logits
    with jax.named_scope(_GATHER):
        return jax.lax.with_sharding_constraint(logits, PartitionSpec())


def mean_over_rows(
    layout: MeshLayout | None, in_specs: Any, out_specs: Any
) -> Callable[[Any], Any]:
    """Decorates a function whose result is a mean over rows, such as a loss and its gradient.

    Each shard of the rows, which are split over "data" and "fsdp", runs it on its own rows, which
    must be as many on all, and the results are averaged: that is all that crosses the data axis.

    Args:
      layout: see `over_rows`, also for how rows are passed. The result's leaves are floating,
        without a batch axis.
      in_specs: how what is passed by position is split over "fsdp", one for each argument.
      out_specs: a tree of specs for all leaves of the result. The shards of a leaf that is split
        over "fsdp" are sums over that axis already, and are divided by its size.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        if layout is None:
            return function
        axes = (DATA, FSDP) if layout.fsdp_shards > 1 else (DATA,)

        def mean(leaf: jax.Array, spec: PartitionSpec) -> jax.Array:
            if FSDP in spec:
                return jax.lax.pmean(leaf, DATA) / layout.fsdp_shards
            return jax.lax.pmean(leaf, axes)

        def averaged(*shared: Any, **rows: Any) -> Any:
            return jax.tree.map(mean, function(*shared, **rows), out_specs)

        run = _on_shards(layout, averaged, in_specs, out_specs, axes)
        return lambda *shared, **rows: run(shared, rows)

    return decorate


def _on_shards(
    layout: MeshLayout,
    function: Callable[..., Any],
    in_specs: Any,
    out_specs: Any,
    axes: tuple[str, ...],
) -> Callable[[tuple[Any, ...], dict[str, Any]], Any]:
    return jax.shard_map(
        lambda shared, rows: function(*shared, **rows),
        mesh=layout.mesh,
        in_specs=(in_specs, PartitionSpec(axes if len(axes) > 1 else axes[0])),
        out_specs=out_specs,
        axis_names=set(axes),
        check_vma=False,
    )


def make_mesh(sizes: Sequence[int | str]) -> Mesh | None:
    """A mesh of these sizes of its axes "data" and "model", and "fsdp" if there is a third size.

    With several processes, the mesh has the devices of all of them.

    Args:
      sizes: of a configuration or a flag; none for one device and no mesh.

    Raises:
      ConfigError: the sizes are not two or three positive numbers; there are too few devices; or
        devices of several processes would be left out.
    """
    if not sizes:
        if jax.process_count() > 1:
            raise ConfigError(
                f"{jax.process_count()} processes need a mesh of all their {jax.device_count()} "
                f"devices; give its sizes, e.g. mesh={jax.device_count()},1"
            )
        return None
    said = f"mesh={','.join(map(str, sizes))}"
    try:
        data, model, *rest = map(int, sizes)
    except ValueError:
        data, model, rest = 0, 0, []
    (fsdp,) = rest if len(rest) == 1 else (0 if rest else 1,)
    if min(data, model, fsdp) < 1:
        raise ConfigError(
            f"{said} must be two numbers of at least 1, of the axes {DATA!r} and {MODEL!r}, or "
            f"three, with {FSDP!r} last, for training"
        )
    needed, there = data * model * fsdp, jax.device_count()
    if needed > there or (needed < there and jax.process_count() > 1):
        hint = "lower a size"
        if needed < there:
            hint = "with several processes a mesh has all devices; raise a size"
        elif jax.default_backend() == "cpu":
            hint += f", or set XLA_FLAGS=--xla_force_host_platform_device_count={needed}"
        raise ConfigError(
            f"{said} needs {needed} devices, but there are {there} ({jax.default_backend()}, "
            f"{jax.process_count()} processes); {hint}"
        )
    if len(sizes) == 2:
        return jax.make_mesh((data, model), (DATA, MODEL))
    return jax.make_mesh((data, fsdp, model), (DATA, FSDP, MODEL))
