"""One training step: loss, gradient and update in a single program, on one device or a mesh."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from rsd_jax.distillation import losses
from rsd_jax.distillation.placement import shardings
from rsd_jax.distillation.recipe import Recipe, optimizer
from rsd_jax.models.llama import LlamaModel
from rsd_jax.sharding import MeshLayout, mean_over_rows
from rsd_jax.types import Params


@struct.dataclass
class TrainState:
    """Everything that a run's future depends on besides its recipe and its data.

    Attributes:
      params: f32 parameters.
      opt_state: state of the optimiser.
      step: i32[], optimiser steps done.
    """

    params: Params
    opt_state: Any
    step: jax.Array


def init_state(params: Params, recipe: Recipe) -> TrainState:
    """The state before step 0; takes over `params`, which the first step donates."""
    return TrainState(params, optimizer(recipe).init(params), jnp.zeros((), jnp.int32))


def abstract_state(
    model: LlamaModel, recipe: Recipe, layout: MeshLayout | None = None
) -> TrainState:
    """Shapes, dtypes and, with a layout, shardings of a `TrainState`, without arrays."""
    state = jax.eval_shape(
        lambda key: init_state(model.init_params(key), recipe), jax.random.key(0)
    )
    if layout is None:
        return state
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        state,
        shardings(layout, model.config, state),
    )


def _cast(params: Params, dtype: str) -> Params:
    return jax.tree.map(lambda leaf: leaf.astype(dtype), params)


def mean_loss(
    model: LlamaModel,
    teacher: LlamaModel | None,
    recipe: Recipe,
    params: Params,
    teacher_params: Params | None,
    windows: jax.Array,
) -> jax.Array:
    """The recipe's objective on windows i32[B, 1 + length]: f32[], a mean over rows of one size."""
    inputs, labels = windows[:, :-1], windows[:, 1:]
    dtype = recipe.compute_dtype
    logits = model.score(_cast(params, dtype), inputs)
    if recipe.objective == "cross_entropy":
        return losses.cross_entropy(logits, labels).mean()
    assert teacher is not None
    target_logits = teacher.score(_cast(teacher_params, dtype), inputs)
    loss = losses.LOSSES[recipe.objective]
    return loss(target_logits, logits, temperature=recipe.loss_temperature).mean()


def _loss_and_gradient(
    loss: Callable[[Params, Params | None, jax.Array], jax.Array],
    accumulate: int,
    params: Params,
    teacher_params: Params | None,
    windows: jax.Array,
) -> tuple[jax.Array, Params]:
    """Loss and gradient on windows i32[B, 1 + length], `accumulate` parts of them in turn."""
    value_and_grad = jax.value_and_grad(loss)
    if accumulate == 1:
        return value_and_grad(params, teacher_params, windows)
    parts = windows.reshape(accumulate, -1, windows.shape[1])

    def add(total: tuple, part: jax.Array) -> tuple[tuple, None]:
        return jax.tree.map(jnp.add, total, value_and_grad(params, teacher_params, part)), None

    zero = (jnp.zeros((), jnp.float32), jax.tree.map(jnp.zeros_like, params))
    total, _ = jax.lax.scan(add, zero, parts)
    return jax.tree.map(lambda leaf: leaf / accumulate, total)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3), donate_argnums=4)
def train_step(
    model: LlamaModel,
    teacher: LlamaModel | None,
    recipe: Recipe,
    layout: MeshLayout | None,
    state: TrainState,
    teacher_params: Params | None,
    windows: jax.Array,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One optimiser step on windows i32[B, 1 + length]; the state is donated.

    On a mesh every data shard takes the gradient on its own rows, all its parts, and the shards
    are averaged once; the model axis is left to the compiler.

    Returns:
      The new state, laid out like the old one, and "loss" and "grad_norm", f32[], both before
      the update.
    """
    model = dataclasses.replace(model, remat=recipe.remat)
    gradient = functools.partial(
        _loss_and_gradient,
        functools.partial(mean_loss, model, teacher, recipe),
        recipe.accumulate,
    )
    gradient = mean_over_rows(layout, (False, False, True))(gradient)
    loss, grads = gradient(state.params, teacher_params, windows)
    updates, opt_state = optimizer(recipe).update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics = {"loss": loss, "grad_norm": optax.tree.norm(grads)}
    state = TrainState(params, opt_state, state.step + 1)
    if layout is not None:
        state = jax.lax.with_sharding_constraint(state, shardings(layout, model.config, state))
    return state, metrics
