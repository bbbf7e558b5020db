"""A tiny random Llama pair whose logits depend visibly on everything that attention sees."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rsd_jax.core.types import LoadedModel, Params
from rsd_jax.models.config import LlamaConfig
from rsd_jax.models.llama import LlamaModel

TINY_CONFIG = LlamaConfig(
    vocab_size=32,
    hidden_size=16,
    intermediate_size=24,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    max_positions=512,
)

_DEVIATION = 0.5
"""Standard deviation of the weights, so large (trained: near 0.02) that every key matters."""


def tiny_params(seed: int, config: LlamaConfig = TINY_CONFIG) -> Params:
    """Random normal float32 parameters, norm scales 1; drawn by numpy, so nothing is compiled."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(LlamaModel(config).init_params, jax.random.key(0))

    def draw(leaf: jax.ShapeDtypeStruct) -> jax.Array:
        weights = rng.normal(0.0, _DEVIATION, leaf.shape) if leaf.ndim > 1 else np.ones(leaf.shape)
        return jnp.asarray(weights.astype(np.float32))

    return jax.tree.map(draw, shapes)


def mixed_params(first: Params, second: Params, share: float) -> Params:
    """Parameters between two models, for a draft that partly agrees with `first`."""

    def mix(a: jax.Array, b: jax.Array) -> jax.Array:
        mixed = (1 - share) * np.asarray(a, np.float64) + share * np.asarray(b, np.float64)
        return jnp.asarray(mixed.astype(a.dtype))

    return jax.tree.map(mix, first, second)


def tiny_pair(
    seed: int = 0, *, share: float = 0.15, dtype: str = "float32"
) -> tuple[LoadedModel, LoadedModel]:
    """A target and a draft of one configuration; all such pairs share compiled programs.

    Args:
      seed: seed of the weights.
      share: share of other random weights in the draft; 0 makes target and draft equal.
      dtype: "float32", or "float64" for the same weights in an x64 context.
    """
    target = tiny_params(2 * seed)
    draft = mixed_params(target, tiny_params(2 * seed + 1), share)
    model = LlamaModel(TINY_CONFIG, dtype=dtype)
    target, draft = (
        jax.tree.map(lambda w: jnp.asarray(w, jnp.dtype(dtype)), params)
        for params in (target, draft)
    )
    return LoadedModel(model, target), LoadedModel(model, draft)


def in_float64(loaded: LoadedModel) -> LoadedModel:
    """The same model with the same weights in float64; call it in an x64 context."""
    static: Any = loaded.model
    model = dataclasses.replace(static, dtype="float64")
    params = jax.tree.map(lambda w: jnp.asarray(w, jnp.float64), loaded.params)
    return LoadedModel(model, params, loaded.layout)
