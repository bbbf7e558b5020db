"""The training loop: one jitted step, bit-exact when resumed."""

import contextlib
import functools
import math
import pathlib
import time
from collections.abc import Callable

import jax
import numpy as np

from rsd_jax.core.sharding import MeshLayout
from rsd_jax.core.types import Params
from rsd_jax.distillation.data.corpus import batch_at
from rsd_jax.distillation.data.windows import Data, Windows
from rsd_jax.distillation.losses import LOSSES
from rsd_jax.distillation.settings import TrainingSettings
from rsd_jax.distillation.training.checkpoints import Checkpoints
from rsd_jax.distillation.training.log import Log
from rsd_jax.distillation.training.placement import place
from rsd_jax.distillation.training.step import (
    Student,
    TrainState,
    abstract_state,
    as_batch,
    init_state,
    train_step,
)
from rsd_jax.errors import ConfigError
from rsd_jax.models.family import Network
from rsd_jax.models.kv_heads import check_split

_Teacher = tuple[Network, Params]
_Step = Callable[[int, TrainState], tuple[TrainState, dict[str, jax.Array]]]
Evaluate = Callable[[Params], dict[str, float]]
Rewrite = Callable[[Windows, Params, int], Windows]


def _check(
    model: Student,
    recipe: TrainingSettings,
    draw: Callable[..., Windows],
    teacher: _Teacher | None,
    layout: MeshLayout | None,
) -> None:
    if teacher is not None and teacher[0].vocab_size != model.vocab_size:
        raise ConfigError(
            f"the teacher has vocab_size={teacher[0].vocab_size}, the model {model.vocab_size}; "
            "both must share one tokenizer"
        )
    if recipe.objective in LOSSES and teacher is None and _draw(draw, recipe, 0).top is None:
        raise ConfigError(
            f"objective={recipe.objective!r} needs a teacher, or windows with stored log "
            "probabilities of the target"
        )
    shards = 1 if layout is None else layout.data_shards * layout.fsdp_shards
    if recipe.batch_size % (shards * recipe.accumulate):
        raise ConfigError(
            f"batch_size={recipe.batch_size} must be a multiple of {shards * recipe.accumulate}: "
            f"{shards} data shards of the mesh (its axes data and fsdp), each of "
            f"accumulate={recipe.accumulate} parts"
        )
    check_split(model.config, layout, "the model that is trained", copies=False)


def _draw(draw: Callable[..., Windows], recipe: TrainingSettings, step: int) -> Windows:
    return draw(seed=recipe.seed, step=step, batch_size=recipe.batch_size, length=recipe.window)


def train(
    model: Student,
    recipe: TrainingSettings,
    data: np.ndarray | Data,
    directory: str | pathlib.Path,
    *,
    init: Callable[[], Params] | None = None,
    teacher: _Teacher | None = None,
    evaluate: Evaluate | None = None,
    rewrite: Rewrite | None = None,
    stop_after: int | None = None,
    until: float = math.inf,
    mesh: jax.sharding.Mesh | None = None,
) -> TrainState:
    """Trains to the end of the recipe, from the newest checkpoint in `directory` if there is one.

    A run that was stopped or killed and resumed goes through the same states as an uninterrupted
    run: the whole state is restored, and the batch of a step depends only on (seed, step).

    Args:
      model: the model to train; its dtype should be the recipe's `compute_dtype`.
      recipe: settings of the run.
      data: tokens u16[n] of a text, or a source of windows, e.g. a `Mixture` or, for stored log
        probabilities, a `ResponseSource`.
      directory: receives checkpoints/, tensorboard/ and metrics.jsonl (training rows, and rows
        with "heldout").
      init: gives the initial f32 parameters; random from the recipe's seed when None.
      teacher: model and parameters of the teacher for the objectives of `LOSSES`; without a
        teacher these objectives need windows with stored log probabilities.
      evaluate: called with the parameters at each checkpoint; the result is logged.
      rewrite: called with the windows, the parameters and the number of each step; returns the
        windows to train on, e.g. windows that the draft wrote (see `on_policy`). For an exact
        resume the result must depend only on these arguments.
      stop_after: return when this many steps are done in all.
      until: time in seconds of `time.monotonic`: the first row of metrics.jsonl at or after this
        time is followed by a checkpoint, and the call returns. Not with several processes.
      mesh: axes "data" (rows of a batch) and "model" (heads, wide dimensions of parameters and
        optimiser state), and perhaps "fsdp" (rows of a batch, and the other dimension of parameters
        and optimiser state); None for one device. A run may be resumed on another mesh.

    Returns:
      The last state.

    Raises:
      ConfigError: the teacher has another vocabulary; an objective of `LOSSES` has no teacher and
        no stored log probabilities; the batch or the heads cannot be split over the mesh; there is
        too little data for a window; or `until` is given with several processes.
      CheckpointError: the checkpoints are of another model, or none of them can be read.
      NonFiniteLossError: names the step; no checkpoint of such a state is written.
    """
    layout = None if mesh is None else MeshLayout.of(mesh, training=True)
    draw = data.batch_at if not isinstance(data, np.ndarray) else functools.partial(_text, data)
    _check(model, recipe, draw, teacher, layout)
    if until < math.inf and jax.process_count() > 1:
        raise ConfigError("until: the clocks of several processes differ; leave it out")
    directory = pathlib.Path(directory)
    with contextlib.closing(Checkpoints(directory / "checkpoints", keep=recipe.keep)) as saved:
        if saved.latest_step() is None:
            params = init() if init else model.init_params(jax.random.key(recipe.seed))
            # Placed before the optimiser's moments are created, so that no device holds them all.
            params = place(layout, model.config, params)
            start, state = 0, place(layout, model.config, init_state(params, recipe))
        else:
            start, state = saved.restore(abstract_state(model, recipe, layout))
        with contextlib.closing(Log(directory / "metrics.jsonl", recipe, start)) as log:
            steps = range(start, min(recipe.steps, stop_after or recipe.steps))
            step = _compiled(model, recipe, draw, teacher, rewrite, layout)
            return _run(step, state, steps, recipe, saved, log, evaluate, until)


def _text(tokens: np.ndarray, **batch: int) -> Windows:
    return Windows(batch_at(tokens, **batch))


def _compiled(
    model: Student,
    recipe: TrainingSettings,
    draw: Callable[..., Windows],
    teacher: _Teacher | None,
    rewrite: Rewrite | None,
    layout: MeshLayout | None,
) -> _Step:
    """The step, batch included, as a function of its number and the state."""
    teacher_model, teacher_params = teacher or (None, None)
    if teacher_model is not None:
        teacher_params = place(layout, teacher_model.stored_config, teacher_params)
    reads_top = recipe.objective in LOSSES and teacher is None

    def step(index: int, state: TrainState) -> tuple[TrainState, dict[str, jax.Array]]:
        windows = _draw(draw, recipe, index)
        if rewrite is not None:
            windows = rewrite(windows, state.params, index)
        batch = as_batch(windows, layout, top=reads_top)
        return train_step(model, teacher_model, recipe, layout, state, teacher_params, batch)

    return step


def _run(
    step: _Step,
    state: TrainState,
    steps: range,
    recipe: TrainingSettings,
    saved: Checkpoints,
    log: Log,
    evaluate: Evaluate | None,
    until: float,
) -> TrainState:
    """Runs the steps and writes rows and checkpoints at the recipe's intervals."""
    kept, over = steps.start or None, False
    for index in steps:
        state, metrics = step(index, state)
        log.add(index, metrics)
        done = index + 1
        due = done % recipe.checkpoint_every == 0 or done == steps.stop
        if due or done % recipe.log_every == 0:
            log.flush(kept)
            over = time.monotonic() >= until  # read only when the device has done these steps
        if due or over:
            # The row comes before the checkpoint: a run killed in between writes both again.
            if evaluate is not None:
                log.write({"step": done, "heldout": evaluate(state.params)})
            saved.save(done, state)
            kept = done
            log.restart_clock()
        if over:
            break
    return state
