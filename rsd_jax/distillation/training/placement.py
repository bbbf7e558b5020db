"""Placement of a training run's state on a mesh."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from rsd_jax.core.sharding import FSDP, MeshLayout
from rsd_jax.models.families import family_of
from rsd_jax.models.family import ModelConfig


def shardings(layout: MeshLayout, config: ModelConfig, tree: Any) -> Any:
    """The sharding of every leaf of a tree that is, or contains, trees of parameters.

    An optimiser keeps its moments in trees like the tree of parameters. A leaf with a parameter's
    shape, whose path ends with the parameter's path, gets the parameter's sharding. All other
    leaves (counts, coefficients) are replicated.

    Args:
      layout: the mesh.
      config: of the model.
      tree: leaves with a shape: arrays or abstract values.
    """
    family = family_of(config)
    shapes = {spec.path: spec.shape for spec in family.tensors(config).values()}

    def sharding(path: tuple, leaf: Any) -> NamedSharding:
        names = tuple(jax.tree_util.keystr((key,), simple=True) for key in path)
        for start in range(len(names)):
            if shapes.get(names[start:]) == leaf.shape:
                spec = layout.spec(*family.axes(config, names[start:]))
                # P(), as programs return it: jit takes P(None) as different and compiles again.
                return NamedSharding(layout.mesh, spec if any(spec) else PartitionSpec())
        return NamedSharding(layout.mesh, PartitionSpec())

    return jax.tree_util.tree_map_with_path(sharding, tree)


def place(layout: MeshLayout | None, config: ModelConfig, tree: Any) -> Any:
    """Puts a tree's arrays on the mesh, see `shardings`; without a layout they stay in place.

    With several processes, arrays that a process has whole are the same on all.
    """

    def put(leaf: Any, sharding: NamedSharding) -> jax.Array:
        if jax.process_count() == 1 or not leaf.is_fully_addressable:
            return jax.device_put(leaf, sharding)
        whole = np.asarray(leaf)
        return jax.make_array_from_callback(whole.shape, sharding, whole.__getitem__)

    return tree if layout is None else jax.tree.map(put, tree, shardings(layout, config, tree))


def place_rows(layout: MeshLayout | None, rows: np.ndarray) -> jax.Array:
    """Puts a batch [B, ...] on the devices; on a mesh, the rows are split over data shards."""
    if layout is None:
        return jnp.asarray(rows)
    if layout.fsdp_shards > 1:
        sharding = NamedSharding(layout.mesh, layout.rows_spec(rows.ndim))
        return jax.make_array_from_callback(rows.shape, sharding, rows.__getitem__)
    return layout.place(rows, ("batch",) + (None,) * (rows.ndim - 1), rows.shape)


def fsdp_specs(layout: MeshLayout | None, config: ModelConfig, params: Any) -> Any:
    """How parameters are split over "fsdp" alone, for `mean_over_rows`: a tree of specs.

    Args:
      layout: of the mesh, None for one device.
      config: of the model, with the copies that the parameters hold.
      params: of the model; None for no model.
    """
    if layout is None or layout.fsdp_shards == 1 or params is None:
        return jax.tree.map(lambda _: PartitionSpec(), params)
    return jax.tree.map(
        lambda each: PartitionSpec(*(FSDP if name == FSDP else None for name in each.spec)),
        shardings(layout, config, params),
    )


def whole_along_fsdp(params: Any, specs: Any) -> Any:
    """Inside `mean_over_rows`: the parameters as a pass needs them.

    The transpose of a gather sums gradients over "fsdp" and leaves each device its own part.

    Args:
      params: as the device holds them.
      specs: from `fsdp_specs`.
    """

    def whole(leaf: jax.Array, spec: PartitionSpec) -> jax.Array:
        if FSDP not in spec:
            return leaf
        return jax.lax.all_gather(leaf, FSDP, axis=tuple(spec).index(FSDP), tiled=True)

    return jax.tree.map(whole, params, specs)
