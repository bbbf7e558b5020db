"""Reports of a training run: metrics.jsonl, progress bar, TensorBoard, errors for bad losses."""

import json
import os
import pathlib
import time
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from rsd_jax.core.processes import is_writer, read
from rsd_jax.distillation.settings import TrainingSettings
from rsd_jax.distillation.training.optimizer import learning_rate
from rsd_jax.distillation.training.scalars import open_scalars
from rsd_jax.errors import NonFiniteLossError
from rsd_jax.records.complete_files import complete_file
from rsd_jax.records.json_objects import json_object


class Log:
    """metrics.jsonl, progress bar and scalars of a run; checks that every loss is finite.

    With several processes, only the writer writes and shows something.

    Rows of an earlier run for steps after `start` are dropped, as they are written again. The first
    step compiles, so rows leave this step out of their seconds and tokens per second.
    """

    def __init__(self, path: pathlib.Path, recipe: TrainingSettings, start: int):
        self._recipe, self._rate = recipe, learning_rate(recipe)
        if is_writer():
            _drop_rows_after(start, path)
        self._file = (path if is_writer() else pathlib.Path(os.devnull)).open("a")
        self._bar = tqdm(
            total=recipe.steps * recipe.tokens_per_step,
            initial=start * recipe.tokens_per_step,
            desc=path.parent.name,
            unit="tok",
            unit_scale=True,
            disable=not is_writer(),
            mininterval=5,
            # tqdm's own rate would count evaluations and checkpoints as training.
            bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]",
        )
        self._scalars = None
        if is_writer():
            self._scalars = open_scalars(path.parent / "tensorboard", start)
        self._waiting: list[tuple[int, dict[str, jax.Array]]] = []
        self._compiling = True
        self._since = time.perf_counter()

    def add(self, step: int, metrics: dict[str, jax.Array]) -> None:
        """Adds a step's metrics; waits for the device after the first step only."""
        self._waiting.append((step, metrics))
        if len(self._waiting) == 1 and self._compiling:
            jax.block_until_ready(metrics)
            self.restart_clock()

    def flush(self, kept: int | None) -> None:
        """Reads the added metrics, writes one row with their means, moves the bar.

        Raises:
          NonFiniteLossError: a loss or gradient is not finite; names the first such step.
        """
        if not self._waiting:
            return
        steps = [step for step, _ in self._waiting]
        values = read([metrics for _, metrics in self._waiting])
        self._waiting = []
        for step, value in zip(steps, values, strict=True):
            if not np.isfinite(value["loss"]) or not np.isfinite(value["grad_norm"]):
                loss, norm = float(value["loss"]), float(value["grad_norm"])
                raise NonFiniteLossError(step, loss, norm, kept)
        seconds = time.perf_counter() - self._since
        tokens, timed = (
            count * self._recipe.tokens_per_step
            for count in (len(steps), len(steps) - int(self._compiling))
        )
        self._compiling = False
        loss = float(np.mean([value["loss"] for value in values]))
        self.write(
            {
                "step": steps[-1] + 1,
                "tokens": (steps[-1] + 1) * self._recipe.tokens_per_step,
                "loss": loss,
                "grad_norm": float(np.mean([value["grad_norm"] for value in values])),
                "learning_rate": float(self._rate(steps[-1])),
                "seconds": seconds,
            }
            | ({"tokens_per_second": timed / seconds} if timed else {})
        )
        self._bar.update(tokens)
        rate = tqdm.format_sizeof(timed / seconds) if timed else "no"
        self._bar.set_postfix_str(f"loss {loss:.3f}, {rate} tokens/s in steps")
        self._since = time.perf_counter()

    def write(self, row: dict[str, Any]) -> None:
        """Writes one row: a training row, or a row with "step" and "heldout"."""
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        if self._scalars is not None:
            self._scalars.add(row)

    def restart_clock(self) -> None:
        """Leaves the time since the last flush out of the next row's seconds."""
        self._since = time.perf_counter()

    def close(self) -> None:
        """Closes the bar and the files."""
        self._bar.close()
        self._file.close()
        if self._scalars is not None:
            self._scalars.close()


def _drop_rows_after(step: int, path: pathlib.Path) -> None:
    if not path.exists():
        return
    lines = path.read_text().splitlines(keepends=True)
    # A killed run may have left half a row, without a newline, at the end.
    whole = [line for line in lines if line.endswith("\n")]
    kept = [line for line in whole if json_object(line)["step"] <= step]
    with complete_file(path) as file:
        file.write("".join(kept).encode())
