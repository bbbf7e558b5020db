"""Where the state of a training run goes on a mesh."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from rsd_jax.core.sharding import MeshLayout
from rsd_jax.models.families import family_of
from rsd_jax.models.family import ModelConfig


def shardings(layout: MeshLayout, config: ModelConfig, tree: Any) -> Any:
    """The sharding of every leaf of a tree of parameters, or of one that has such trees in it.

    An optimiser keeps its moments in trees like the parameters'; a leaf whose path ends with a
    parameter's path, and that has its shape, goes where that parameter goes. All others (counts,
    coefficients) are replicated.

    Args:
      layout: the mesh.
      config: of the model.
      tree: leaves with a shape: arrays or their abstract values.
    """
    family = family_of(config)
    shapes = {spec.path: spec.shape for spec in family.tensors(config).values()}

    def sharding(path: tuple, leaf: Any) -> NamedSharding:
        names = tuple(jax.tree_util.keystr((key,), simple=True) for key in path)
        for start in range(len(names)):
            if shapes.get(names[start:]) == leaf.shape:
                spec = layout.spec(*family.axes(config, names[start:]))
                # As a program hands it back: P(None) is not P() to jit, which would compile again.
                return NamedSharding(layout.mesh, spec if any(spec) else PartitionSpec())
        return NamedSharding(layout.mesh, PartitionSpec())

    return jax.tree_util.tree_map_with_path(sharding, tree)


def place(layout: MeshLayout | None, config: ModelConfig, tree: Any) -> Any:
    """Puts the arrays of such a tree on the mesh; without one they stay where they are."""
    return tree if layout is None else jax.device_put(tree, shardings(layout, config, tree))


def place_rows(layout: MeshLayout | None, rows: np.ndarray) -> jax.Array:
    """Puts a batch [B, ...] on the devices, on a mesh each data shard's rows where they belong."""
    if layout is None:
        return jnp.asarray(rows)
    return layout.place(rows, ("batch",) + (None,) * (rows.ndim - 1), rows.shape)
