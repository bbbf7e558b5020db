"""Digests of weights: a glance for searches and one for rows, and all of them for manifests.

The two glances could be one, were there no files: `search_identity` and `row_digest` differ in
what they look at, and both stand in files that have to go on.

| digest | numbers of each parameter | as | names and shapes | model in two dtypes |
|---|---|---|---|---|
| `search_identity` | 16 | bfloat16 | no | the same |
| `row_digest` | 64 | float32 | yes | not the same |
| `weights_checksum` | all | as stored | yes, and dtypes | not the same |
"""

import functools
import hashlib
from typing import Any

import jax
import numpy as np

from rsd_jax.core.processes import read
from rsd_jax.core.types import LoadedModel, Params
from rsd_jax.errors import ConfigError

_SEARCH_GLANCE, _ROW_GLANCE = 16, 64  # numbers of each parameter


@functools.partial(jax.jit, static_argnums=(1, 2))
def _glances(params: Params, count: int, dtype: str) -> list[jax.Array]:
    """The first numbers of every parameter's first row."""
    return [leaf[(0,) * (leaf.ndim - 1)][:count].astype(dtype) for leaf in jax.tree.leaves(params)]


def search_identity(target: LoadedModel) -> dict[str, Any]:
    """What a skip set was found for: layers, vocabulary, parameters, and a few of their values.

    The values are rounded to bfloat16, so that a model loaded in either type is the same.
    """
    model, sizes = target.model, target.model.sizes
    # Parameters on a mesh may hold copies, see `split_kv_heads` of models.
    held = sum(int(leaf.size) for leaf in jax.tree.leaves(target.params))
    count = held if sizes is None else sizes.num_parameters
    digest = hashlib.sha256()
    for glance in read(_glances(target.params, _SEARCH_GLANCE, "bfloat16")):
        digest.update(glance.astype("<f4").tobytes())
    return {
        "num_layers": int(model.num_layers),
        "vocab_size": int(model.vocab_size),
        "num_parameters": count,
        "weights": digest.hexdigest()[:16],
    }


def row_digest(*models: LoadedModel) -> str:
    """SHA-256 of the first numbers of every parameter: tells two trainings apart, cheaply."""
    digest = hashlib.sha256()
    for loaded in models:
        leaves, _ = jax.tree_util.tree_flatten_with_path(loaded.params)
        glances = read(_glances(loaded.params, _ROW_GLANCE, "float32"))
        for (path, leaf), glance in zip(leaves, glances, strict=True):
            name = f"{jax.tree_util.keystr(path)} {leaf.shape}"
            digest.update(name.encode() + glance.tobytes())
    return digest.hexdigest()


def weights_checksum(params: Params) -> str:
    """SHA-256 in hexadecimal of names, dtypes, shapes and values; one leaf at a time on the host.

    The same on one device and on a mesh.
    """
    digest = hashlib.sha256()
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    for path, leaf in leaves:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        array = np.ascontiguousarray(read(leaf))
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def check_identity(what: str, known: Any, model: dict[str, Any]) -> None:
    """Raises `ConfigError` naming what differs between a search's model and the one at hand."""
    known = known if isinstance(known, dict) else {}
    different = [
        f"{name} {known.get(name)!r} there, {value!r} here"
        for name, value in model.items()
        if known.get(name) != value
    ]
    if different:
        raise ConfigError(f"{what} is of another model: {'; '.join(different)}")
