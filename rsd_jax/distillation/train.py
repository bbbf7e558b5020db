"""The training loop: one jitted step, resumable to the bit."""

import contextlib
import functools
import pathlib
from collections.abc import Callable

import jax
import numpy as np

from rsd_jax.distillation.checkpoints import Checkpoints
from rsd_jax.distillation.corpus import batch_at
from rsd_jax.distillation.log import Log
from rsd_jax.distillation.losses import LOSSES
from rsd_jax.distillation.mixture import Mixture
from rsd_jax.distillation.placement import place, place_rows
from rsd_jax.distillation.recipe import Recipe
from rsd_jax.distillation.step import TrainState, abstract_state, init_state, train_step
from rsd_jax.errors import ConfigError
from rsd_jax.models.llama import LlamaModel
from rsd_jax.sharding import MeshLayout
from rsd_jax.types import Params

_Teacher = tuple[LlamaModel, Params]
_Step = Callable[[int, TrainState], tuple[TrainState, dict[str, jax.Array]]]
Evaluate = Callable[[Params], dict[str, float]]


def _check(recipe: Recipe, teacher: _Teacher | None, layout: MeshLayout | None) -> None:
    if recipe.objective in LOSSES and teacher is None:
        raise ConfigError(f"objective={recipe.objective!r} needs a teacher")
    shards = 1 if layout is None else layout.data_shards
    if recipe.batch_size % (shards * recipe.accumulate):
        raise ConfigError(
            f"batch_size={recipe.batch_size} must be a multiple of {shards * recipe.accumulate}: "
            f"{shards} data shards of the mesh, each of accumulate={recipe.accumulate} parts"
        )


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
    mesh: jax.sharding.Mesh | None = None,
) -> TrainState:
    """Trains to the end of the recipe, from the newest checkpoint in `directory` if there is one.

    A run that was stopped or killed and resumed goes through the same states as one that was
    not: the state is restored whole, and the batch of a step depends on (seed, step) alone.

    Args:
      model: what is trained; its dtype should be the recipe's `compute_dtype`.
      recipe: the run.
      text: the training text, tokens u16[n] or a mixture of several texts.
      directory: receives checkpoints/ and metrics.jsonl: training rows, and rows with "heldout";
        and tensorboard/, if a library that writes it is installed.
      init: gives the initial f32 parameters; random from the recipe's seed when None.
      teacher: model and parameters that the objectives of `LOSSES` distil.
      evaluate: called with the parameters at each checkpoint; what it returns is logged.
      stop_after: return when this many steps are done in all.
      mesh: axes "data" (rows of a batch) and "model" (heads, wide dimensions of parameters and
        optimiser state); None for one device. A run may be resumed on another mesh.

    Returns:
      The last state.

    Raises:
      ConfigError: an objective of `LOSSES` without a teacher, a mesh that the batch cannot be
        split over.
      CheckpointError: the checkpoints are another model's, or none of them can be read.
      NonFiniteLossError: naming the step; no checkpoint is written from such a state.
    """
    layout = None if mesh is None else MeshLayout.of(mesh)
    _check(recipe, teacher, layout)
    directory = pathlib.Path(directory)
    with contextlib.closing(Checkpoints(directory / "checkpoints", keep=recipe.keep)) as saved:
        if saved.latest_step() is None:
            params = init() if init else model.init_params(jax.random.key(recipe.seed))
            # Before the optimiser's moments are made, so that they are never whole.
            params = place(layout, model.config, params)
            start, state = 0, place(layout, model.config, init_state(params, recipe))
        else:
            start, state = saved.restore(abstract_state(model, recipe, layout))
        with contextlib.closing(Log(directory / "metrics.jsonl", recipe, start)) as log:
            steps = range(start, min(recipe.steps, stop_after or recipe.steps))
            step = _compiled(model, recipe, text, teacher, layout)
            return _run(step, state, steps, recipe, saved, log, evaluate)


def _compiled(
    model: LlamaModel,
    recipe: Recipe,
    text: np.ndarray | Mixture,
    teacher: _Teacher | None,
    layout: MeshLayout | None,
) -> _Step:
    """The step as a function of its number and the state; it draws its own batch."""
    draw = text.batch_at if isinstance(text, Mixture) else functools.partial(batch_at, text)
    teacher_model, teacher_params = teacher or (None, None)
    if teacher_model is not None:
        teacher_params = place(layout, teacher_model.config, teacher_params)

    def step(index: int, state: TrainState) -> tuple[TrainState, dict[str, jax.Array]]:
        batch = draw(
            seed=recipe.seed, step=index, batch_size=recipe.batch_size, length=recipe.window
        )
        rows = place_rows(layout, batch)
        return train_step(model, teacher_model, recipe, layout, state, teacher_params, rows)

    return step


def _run(
    step: _Step,
    state: TrainState,
    steps: range,
    recipe: Recipe,
    saved: Checkpoints,
    log: Log,
    evaluate: Evaluate | None,
) -> TrainState:
    """Goes through the steps, writing rows and checkpoints as the recipe says."""
    kept = steps.start or None
    for index in steps:
        state, metrics = step(index, state)
        log.add(index, metrics)
        done = index + 1
        due = done % recipe.checkpoint_every == 0 or done == steps.stop
        if due or done % recipe.log_every == 0:
            log.flush(kept)
        if due:
            # The row before the checkpoint: a run killed between the two writes both again.
            if evaluate is not None:
                log.write({"step": done, "heldout": evaluate(state.params)})
            saved.save(done, state)
            kept = done
            log.restart_clock()
    return state
