"""One training step: loss, gradient and update in a single program, on one device or a mesh."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, Self

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax.sharding import PartitionSpec

from rsd_jax.core.sharding import MeshLayout, mean_over_rows
from rsd_jax.core.types import LanguageModel, Params
from rsd_jax.distillation import losses
from rsd_jax.distillation.data.windows import Windows
from rsd_jax.distillation.settings import TrainingSettings
from rsd_jax.distillation.training.optimizer import optimizer
from rsd_jax.distillation.training.placement import (
    fsdp_specs,
    place_rows,
    shardings,
    whole_along_fsdp,
)
from rsd_jax.distillation.truncated import TruncatedLogits
from rsd_jax.models.family import ModelConfig


class Student(Protocol):
    """What is trained; every `rsd_jax.models.family.Network` is one."""

    @property
    def config(self) -> ModelConfig: ...

    @property
    def vocab_size(self) -> int: ...

    def init_params(self, key: jax.Array) -> Params: ...

    def score(self, params: Params, tokens: jax.Array) -> jax.Array: ...

    def with_remat(self, remat: bool) -> Self: ...


@struct.dataclass
class TrainState:
    """Everything besides recipe and data that the rest of a run depends on.

    Attributes:
      params: f32 parameters.
      opt_state: state of the optimiser.
      step: i32[], optimiser steps done.
    """

    params: Params
    opt_state: Any
    step: jax.Array


class Batch(NamedTuple):
    """The data of a step, on the devices.

    Attributes:
      windows: i32[B, 1 + length]; labels are all tokens but a row's first.
      weights: f32[B, length] of the labels, with mean 1 over the batch; None for equal weights.
      top: the target's logits, leading shape [B, length]; for steps without a teacher.
    """

    windows: jax.Array
    weights: jax.Array | None = None
    top: TruncatedLogits | None = None


def as_batch(windows: Windows, layout: MeshLayout | None, *, top: bool) -> Batch:
    """Places windows on the devices; masked labels get weight 0.

    Args:
      windows: windows of a step.
      layout: layout of the mesh, None for one device.
      top: whether the step reads the stored log probabilities.
    """
    place = functools.partial(place_rows, layout)
    weights = stored = None
    if windows.mask is not None:
        learned = max(int(windows.mask.sum()), 1)
        weights = place((windows.mask * (windows.mask.size / learned)).astype(np.float32))
    if top and windows.top is not None:
        ids, values, rest = windows.top
        stored = TruncatedLogits(place(values), place(ids.astype(np.int32)), place(rest))
    return Batch(place(windows.tokens), weights, stored)


def init_state(params: Params, recipe: TrainingSettings) -> TrainState:
    """The state before step 0, with `params` itself, not a copy; the first step donates it."""
    return TrainState(params, optimizer(recipe).init(params), jnp.zeros((), jnp.int32))


def abstract_state(
    model: Student, recipe: TrainingSettings, layout: MeshLayout | None = None
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
    model: Student,
    teacher: LanguageModel | None,
    recipe: TrainingSettings,
    params: Params,
    teacher_params: Params | None,
    batch: Batch,
) -> jax.Array:
    """The recipe's objective on a batch: f32[], a (weighted) mean over labels."""
    inputs, labels = batch.windows[:, :-1], batch.windows[:, 1:]
    dtype = recipe.compute_dtype
    logits = model.score(_cast(params, dtype), inputs)
    if recipe.objective == "cross_entropy":
        values = losses.cross_entropy(logits, labels)
    else:
        target: losses.Target
        if teacher is not None:
            target = teacher.score(_cast(teacher_params, dtype), inputs)
        else:
            assert batch.top is not None
            target = batch.top
        over_batch = recipe.objective in losses.OVER_BATCH
        values = losses.LOSSES[recipe.objective](
            target,
            logits,
            temperature=recipe.loss_temperature,
            **({"weights": batch.weights} if over_batch else {}),
        )
    # Weights have mean 1 over the batch, so the mean over its parts is the batch's weighted mean.
    return values.mean() if batch.weights is None else (batch.weights * values).mean()


def _loss_and_gradient(
    loss: Callable[[Params, Params | None, Batch], jax.Array],
    accumulate: int,
    params: Params,
    teacher_params: Params | None,
    batch: Batch,
) -> tuple[jax.Array, Params]:
    """Loss and gradient on a batch, computed in `accumulate` parts one after the other."""
    value_and_grad = jax.value_and_grad(loss)
    if accumulate == 1:
        return value_and_grad(params, teacher_params, batch)
    parts = jax.tree.map(lambda leaf: leaf.reshape(accumulate, -1, *leaf.shape[1:]), batch)

    def add(total: tuple, part: Batch) -> tuple[tuple, None]:
        return jax.tree.map(jnp.add, total, value_and_grad(params, teacher_params, part)), None

    zero = (jnp.zeros((), jnp.float32), jax.tree.map(jnp.zeros_like, params))
    total, _ = jax.lax.scan(add, zero, parts)
    return jax.tree.map(lambda leaf: leaf / accumulate, total)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3), donate_argnums=4)
def train_step(
    model: Student,
    teacher: LanguageModel | None,
    recipe: TrainingSettings,
    layout: MeshLayout | None,
    state: TrainState,
    teacher_params: Params | None,
    batch: Batch,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One optimiser step on a batch; the state is donated.

    On a mesh every data shard computes the gradient on all parts of its rows; then the shards'
    gradients are averaged once. The compiler handles the model axis. Along an axis "fsdp", a pass
    gathers the parameters, and each device keeps its own part of the gradient.

    Returns:
      The new state, sharded like the old state, and "loss" and "grad_norm", f32[], both before
      the update.
    """
    model = model.with_remat(recipe.remat)
    own = fsdp_specs(layout, model.config, state.params)
    of_teacher: Any = getattr(teacher, "stored_config", None)
    others = fsdp_specs(layout, of_teacher, teacher_params)

    def loss_of(params: Params, teacher_params: Params | None, batch: Batch) -> jax.Array:
        params = whole_along_fsdp(params, own)
        teacher_params = whole_along_fsdp(teacher_params, others)
        return mean_loss(model, teacher, recipe, params, teacher_params, batch)

    gradient = functools.partial(_loss_and_gradient, loss_of, recipe.accumulate)
    gradient = mean_over_rows(layout, (own, others), (PartitionSpec(), own))(gradient)
    loss, grads = gradient(state.params, teacher_params, batch=batch)
    updates, opt_state = optimizer(recipe).update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics = {"loss": loss, "grad_norm": optax.tree.norm(grads)}
    state = TrainState(params, opt_state, state.step + 1)
    if layout is not None:
        state = jax.lax.with_sharding_constraint(state, shardings(layout, model.config, state))
    return state, metrics
