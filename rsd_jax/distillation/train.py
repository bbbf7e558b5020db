"""The training loop: one jitted step, resumable to the bit."""

import functools
import json
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from tqdm import tqdm

from rsd_jax.distillation import losses
from rsd_jax.distillation.checkpoints import Checkpoints
from rsd_jax.distillation.corpus import batch_at
from rsd_jax.distillation.mixture import Mixture
from rsd_jax.distillation.recipe import Recipe, learning_rate, optimizer
from rsd_jax.errors import ConfigError
from rsd_jax.models.llama import LlamaModel
from rsd_jax.types import Params

_Teacher = tuple[LlamaModel, Params]
Evaluate = Callable[[Params], dict[str, float]]


class NonFiniteLossError(RuntimeError):
    """The loss or the gradient of a step was NaN or infinite.

    Attributes:
      step: the step, counted from 0.
    """

    def __init__(self, step: int, loss: float, grad_norm: float, kept: int | None):
        self.step = step
        last = "no checkpoint was written" if kept is None else f"checkpoint {kept} is intact"
        super().__init__(
            f"step {step} has loss {loss} and gradient norm {grad_norm}; {last}. Lower "
            "`learning_rate` or `clip_norm`, lengthen `warmup_steps`, or use float32"
        )


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


def _cast(params: Params, dtype: str) -> Params:
    return jax.tree.map(lambda leaf: leaf.astype(dtype), params)


@functools.partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=3)
def train_step(
    model: LlamaModel,
    teacher: LlamaModel | None,
    recipe: Recipe,
    state: TrainState,
    teacher_params: Params | None,
    windows: jax.Array,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One optimiser step on windows i32[B, 1 + length]; the state is donated.

    Returns:
      The new state, and "loss" and "grad_norm", f32[], both before the update.
    """
    inputs, labels = windows[:, :-1], windows[:, 1:]
    dtype = recipe.compute_dtype

    def mean_loss(params: Params) -> jax.Array:
        logits = model.score(_cast(params, dtype), inputs)
        if recipe.objective == "cross_entropy":
            return losses.cross_entropy(logits, labels).mean()
        assert teacher is not None
        target_logits = teacher.score(_cast(teacher_params, dtype), inputs)
        loss = losses.LOSSES[recipe.objective]
        return loss(target_logits, logits, temperature=recipe.loss_temperature).mean()

    loss, grads = jax.value_and_grad(mean_loss)(state.params)
    updates, opt_state = optimizer(recipe).update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics = {"loss": loss, "grad_norm": optax.tree.norm(grads)}
    return TrainState(params, opt_state, state.step + 1), metrics


class _Log:
    """metrics.jsonl of a run and the progress bar; checks every loss that passes through."""

    def __init__(self, path: pathlib.Path, recipe: Recipe, start: int):
        self._recipe, self._rate = recipe, learning_rate(recipe)
        rows = path.read_text().splitlines() if path.exists() else []
        # Rows from after the checkpoint that is resumed from will be written again.
        rows = [row for row in rows if json.loads(row)["step"] <= start]
        path.write_text("".join(row + "\n" for row in rows))
        self._file = path.open("a")
        self._bar = tqdm(
            total=recipe.steps * recipe.tokens_per_step, initial=start * recipe.tokens_per_step,
            desc=path.parent.name, unit="tok", unit_scale=True, mininterval=5,
        )  # fmt: skip
        self._waiting: list[tuple[int, dict[str, jax.Array]]] = []
        self._since = time.perf_counter()

    def add(self, step: int, metrics: dict[str, jax.Array]) -> None:
        """Takes a step's metrics without waiting for the device."""
        self._waiting.append((step, metrics))

    def flush(self, kept: int | None) -> None:
        """Reads the waiting metrics, writes one row with their means, moves the bar.

        Raises:
          NonFiniteLossError: naming the first bad step.
        """
        if not self._waiting:
            return
        steps = [step for step, _ in self._waiting]
        values = jax.device_get([metrics for _, metrics in self._waiting])
        self._waiting = []
        for step, value in zip(steps, values, strict=True):
            if not np.isfinite(value["loss"]) or not np.isfinite(value["grad_norm"]):
                loss, norm = float(value["loss"]), float(value["grad_norm"])
                raise NonFiniteLossError(step, loss, norm, kept)
        seconds = time.perf_counter() - self._since
        tokens = len(steps) * self._recipe.tokens_per_step
        loss = float(np.mean([value["loss"] for value in values]))
        self.write({
            "step": steps[-1] + 1,
            "tokens": (steps[-1] + 1) * self._recipe.tokens_per_step,
            "loss": loss,
            "grad_norm": float(np.mean([value["grad_norm"] for value in values])),
            "learning_rate": float(self._rate(steps[-1])),
            "tokens_per_second": tokens / seconds,
            "seconds": seconds,
        })  # fmt: skip
        self._bar.update(tokens)
        self._bar.set_postfix(loss=f"{loss:.3f}")
        self._since = time.perf_counter()

    def write(self, row: dict[str, Any]) -> None:
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()

    def restart_clock(self) -> None:
        """Leaves what happened since the last flush out of the next row's seconds."""
        self._since = time.perf_counter()

    def close(self) -> None:
        self._bar.close()
        self._file.close()


def train(
    model: LlamaModel,
    recipe: Recipe,
    text: np.ndarray | Mixture,
    directory: str | pathlib.Path,
    *,
    init: Callable[[], Params] | None = None,
    teacher: _Teacher | None = None,
    evaluate: Evaluate | None = None,
    stop_after: int | None = None,
) -> TrainState:
    """Trains to the end of the recipe, from the newest checkpoint in `directory` if there is one.

    A run that was stopped and resumed goes through the same states as one that was not: the
    state is restored whole, and the batch of a step depends on (seed, step) alone.

    Args:
      model: what is trained; its dtype should be the recipe's `compute_dtype`.
      recipe: the run.
      text: the training text, tokens u16[n] or a mixture of several texts.
      directory: receives checkpoints/ and metrics.jsonl: training rows, and rows with "heldout".
      init: gives the initial f32 parameters; random from the recipe's seed when None.
      teacher: model and parameters that the objectives of `LOSSES` distil.
      evaluate: called with the parameters at each checkpoint; what it returns is logged.
      stop_after: return when this many steps are done in all.

    Returns:
      The last state.

    Raises:
      ConfigError: an objective of `LOSSES` without a teacher.
      NonFiniteLossError: naming the step; no checkpoint is written from such a state.
    """
    if recipe.objective in losses.LOSSES and teacher is None:
        raise ConfigError(f"objective={recipe.objective!r} needs a teacher")
    draw = text.batch_at if isinstance(text, Mixture) else functools.partial(batch_at, text)
    directory = pathlib.Path(directory)
    checkpoints = Checkpoints(directory / "checkpoints", keep=recipe.keep)
    kept = checkpoints.latest_step()
    if kept is None:
        params = init() if init else model.init_params(jax.random.key(recipe.seed))
        state = init_state(params, recipe)
    else:
        state = checkpoints.restore(abstract_state(model, recipe))
    start, stop = kept or 0, min(recipe.steps, stop_after or recipe.steps)
    log = _Log(directory / "metrics.jsonl", recipe, start)
    teacher_model, teacher_params = teacher or (None, None)
    try:
        for step in range(start, stop):
            batch = draw(
                seed=recipe.seed, step=step, batch_size=recipe.batch_size, length=recipe.window
            )
            state, metrics = train_step(
                model, teacher_model, recipe, state, teacher_params, jnp.asarray(batch)
            )
            log.add(step, metrics)
            done = step + 1
            if done % recipe.log_every == 0 or done == stop:
                log.flush(kept)
            if done % recipe.checkpoint_every == 0 or done == stop:
                log.flush(kept)
                checkpoints.save(done, state)
                kept = done
                if evaluate is not None:
                    log.write({"step": done, "heldout": evaluate(state.params)})
                log.restart_clock()
    finally:
        log.close()
        checkpoints.close()
    return state


def abstract_state(model: LlamaModel, recipe: Recipe) -> TrainState:
    """Shapes and dtypes of a `TrainState`, without arrays."""
    return jax.eval_shape(lambda key: init_state(model.init_params(key), recipe), jax.random.key(0))
