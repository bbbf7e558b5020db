"""What a found set is good for: one model, by its shape and a glance at its weights."""

import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rsd_jax.core.types import LoadedModel
from rsd_jax.errors import ConfigError

_GLANCE = 16  # numbers of each parameter


@jax.jit
def _glances(params: Any) -> list[jax.Array]:
    # In bfloat16, so that a model loaded in either type is the same.
    return [
        leaf[(0,) * (leaf.ndim - 1)][:_GLANCE].astype(jnp.bfloat16).astype(jnp.float32)
        for leaf in jax.tree.leaves(params)
    ]


def model_identity(target: LoadedModel) -> dict[str, Any]:
    """Names a model: layers, vocabulary, parameters, and a digest of a few of their values."""
    model, leaves = target.model, jax.tree.leaves(target.params)
    digest = hashlib.sha256()
    for glance in jax.device_get(_glances(target.params)):
        digest.update(np.asarray(glance, "<f4").tobytes())
    return {
        "num_layers": int(model.num_layers),
        "vocab_size": int(model.vocab_size),
        "num_parameters": sum(int(leaf.size) for leaf in leaves),
        "weights": digest.hexdigest()[:16],
    }


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
