"""Part `train` of the measurement on an accelerator: trains packed drafts, a checkpoint a minute.

The checkpoint of a draft is one file beside the rows. Whatever ends a call, no more than the last
minute is lost, and the next call goes on from the file.
"""

import functools
import json
import pathlib
import tarfile
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from rsd_jax.distillation.evaluate_stored import stored_evaluation
from rsd_jax.distillation.packed import PackedDraft, read_packed
from rsd_jax.distillation.training.train import train
from rsd_jax.errors import CheckpointError
from rsd_jax.evaluation.accelerator.cells import Cell, TimeUpError
from rsd_jax.evaluation.measured_rows import header
from rsd_jax.records.complete_files import complete_file
from rsd_jax.records.device_parts import DraftTraining

PART = "train"
_SECONDS = 60.0  # between checkpoints
_METRICS, _CHECKPOINTS = "metrics.jsonl", "checkpoints"
_LAST = 10  # rows of metrics.jsonl whose loss is averaged


def training_cells(
    deadline: float, *, folders: Sequence[pathlib.Path], out: pathlib.Path
) -> list[Cell]:
    """A cell for each packed draft.

    Args:
      deadline: seconds since the epoch; training stops soon after it, and the next call goes on.
      folders: of `write_packed`.
      out: receives a file `draft-NAME-HASH.tar` per draft: the newest checkpoint and metrics.jsonl,
        as in the folder of a training run. Another recipe or other responses have another hash, so
        they do not go on from this checkpoint.

    Raises:
      CheckpointError: a folder holds no packed draft.
    """
    return [_cell(read_packed(folder), out, deadline) for folder in folders]


def _cell(draft: PackedDraft, out: pathlib.Path, deadline: float) -> Cell:
    recipe, name = draft.recipe, f"{draft.name}-{draft.sha256[:12]}"
    archive = out / f"draft-{name}.tar"
    fields = functools.partial(
        header,
        None,
        kind="training",
        pair=draft.name,
        task="responses",
        method="distillation",
        tree="-",
        draft_length=0,
        temperature=recipe.loss_temperature,
        seed=recipe.seed,
        dtype=recipe.compute_dtype,
        batch_size=recipe.batch_size,
        context_length=recipe.window,
    )

    def measure() -> dict[str, Any]:
        until = time.monotonic() + deadline - time.time()
        return {"training": train_packed(draft, archive, until=until)}

    return Cell(PART, name, fields, measure)


def train_packed(draft: PackedDraft, archive: pathlib.Path, *, until: float) -> DraftTraining:
    """Trains a draft to the end of its recipe, from the file `archive` if there is one.

    Args:
      draft: the draft.
      archive: written after every minute and at the end.
      until: time in seconds of `time.monotonic` at which to stop.

    Raises:
      TimeUpError: time was up before the last step.
      CheckpointError: `archive` is not what this function wrote, or is of another model.
      ConfigError, NonFiniteLossError: see `train`.
    """
    recipe, windows, held_out = draft.recipe, draft.train(), draft.held_out()
    model = draft.model(recipe.compute_dtype)
    measure = None if held_out is None else stored_evaluation(draft.model(), held_out, recipe)
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary) / draft.name  # names the bar
        folder.mkdir()
        _unpack(archive, folder)
        while True:
            state = train(
                model,
                recipe,
                windows,
                folder,
                init=draft.start,
                evaluate=measure,
                until=min(until, time.monotonic() + _SECONDS),
            )
            _pack(folder, archive)
            done = int(state.step)
            if done >= recipe.steps:
                return _trained(folder / _METRICS)
            if time.monotonic() >= until:
                raise TimeUpError(f"{done} of {recipe.steps} steps are done")


def _pack(folder: pathlib.Path, archive: pathlib.Path) -> None:
    """The newest checkpoint and the metrics as one file."""
    newest = max((folder / _CHECKPOINTS).iterdir(), key=lambda path: int(path.name))
    with complete_file(archive) as file, tarfile.open(fileobj=file, mode="w") as tar:
        for path in (newest, folder / _METRICS):
            tar.add(path, path.relative_to(folder).as_posix())


def _unpack(archive: pathlib.Path, folder: pathlib.Path) -> None:
    if not archive.exists():
        return
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
    except (tarfile.TarError, OSError, EOFError) as error:
        raise CheckpointError(
            f"{archive} cannot be read ({error}); move it away to train from the start"
        ) from None


def _trained(metrics: pathlib.Path) -> DraftTraining:
    """What metrics.jsonl says of a finished run."""
    rows = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    steps = [row for row in rows if "loss" in row]
    rates = [row["tokens_per_second"] for row in steps if "tokens_per_second" in row]
    held_out = [row["heldout"] for row in rows if "heldout" in row]
    return DraftTraining(
        steps=steps[-1]["step"],
        trained_tokens=steps[-1]["tokens"],
        training_rate=float(np.median(rates)) if rates else None,
        training_loss=float(np.mean([row["loss"] for row in steps[-_LAST:]])),
        held_out=held_out[-1] if held_out else {},
    )
