"""Runs parts of the measurement, each in a process of its own, until the time is up."""

import dataclasses
import math
import multiprocessing
import os
import pathlib
import sys
import time
from collections.abc import Callable

from rsd_jax.errors import CheckpointError, ConfigError
from rsd_jax.evaluation.accelerator.bench import Bench
from rsd_jax.evaluation.accelerator.cells import Cell, measure_cells
from rsd_jax.evaluation.accelerator.check import Reference, check_cells
from rsd_jax.evaluation.accelerator.choices import choice_cells
from rsd_jax.evaluation.accelerator.curves import curve_cells
from rsd_jax.evaluation.accelerator.peer_cells import peer_cells
from rsd_jax.evaluation.accelerator.profile import profile_cells
from rsd_jax.evaluation.accelerator.settings import REHEARSAL, Settings
from rsd_jax.evaluation.accelerator.table import table_cells
from rsd_jax.records.files import known_rows
from rsd_jax.records.hardware import Hardware

PARTS = ("check", "table", "peers", "curves", "choices", "profile", "train")
"""In order of worth."""

_OF_BENCH: dict[str, Callable[[Bench], list[Cell]]] = {
    "table": table_cells,
    "curves": curve_cells,
    "choices": choice_cells,
    "profile": profile_cells,
}


@dataclasses.dataclass(frozen=True)
class Run:
    """What all parts share; sent to their processes.

    Attributes:
      parts: names in `PARTS`, measured in this order.
      settings: sizes.
      reference: makes what the part `check` compares with.
      training: makes the cells of the part `train`, given the deadline; none without drafts.
      path: file of the rows.
      deadline: seconds since the epoch after which no cell is begun.

    Raises:
      ConfigError: a part is unknown.
    """

    parts: tuple[str, ...]
    settings: Settings
    reference: Callable[[], Reference]
    training: Callable[[float], list[Cell]]
    path: pathlib.Path
    deadline: float = math.inf

    def __post_init__(self):
        if unknown := [part for part in self.parts if part not in PARTS]:
            raise ConfigError(f"part {unknown[0]!r} is unknown; the parts are {list(PARTS)}")


def rows_path(folder: pathlib.Path) -> pathlib.Path:
    """The file of rows in the folder of a measurement."""
    return folder / "rows.jsonl"


def run_parts(run: Run) -> list[str]:
    """Measures the missing cells of each part, one part after the other.

    A process of its own gives each part the whole memory of the device, and a part that crashes
    does not end the others.

    Returns:
      a line for each part that crashed or has failed cells.
    """
    problems = []
    for part in run.parts:
        process = multiprocessing.get_context("spawn").Process(target=_run_part, args=(part, run))
        process.start()
        process.join()
        if process.exitcode:
            problems.append(f"part {part}: see above, exit code {process.exitcode}")
    return problems


def _run_part(part: str, run: Run) -> None:
    """Measures the missing cells of a part; exits with 1 if some failed."""
    if part == "peers":
        # PyTorch needs the memory that JAX would take in advance.
        os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    bench = Bench(run.settings)
    try:
        check_device(run)
        cells = _cells(part, run, bench)
    except (ConfigError, CheckpointError) as error:
        sys.exit(f"error: {error}")
    progress = measure_cells(
        cells,
        run.settings.hash_of,
        run.path,
        deadline=time.monotonic() + run.deadline - time.time(),
        say=_say,
        release=bench.release,
    )
    if progress.left:
        _say(f"{part}: time is up, {progress.left} cells are left; run the command again")
    if progress.failed:
        sys.exit(1)


def check_device(run: Run) -> None:
    """Starts jax's backend and checks the device.

    Raises:
      ConfigError: the device is a CPU, unless this is the rehearsal; or the file holds rows of
        another device, which would share its tables.
    """
    here = Hardware.current()
    if here.backend == "cpu" and run.settings != REHEARSAL:
        raise ConfigError("jax finds no GPU or TPU here; only --rehearse runs on a CPU")
    for device in sorted({row.hardware.device for row in known_rows(run.path)} - {here.device}):
        raise ConfigError(
            f"{run.path} holds rows of the device {device!r}, and this is {here.device!r}; give "
            "another --out"
        )


def _cells(part: str, run: Run, bench: Bench) -> list[Cell]:
    if part == "check":
        return check_cells(run.settings, run.reference())
    if part == "peers":
        return peer_cells(run.settings)
    if part == "train":
        return run.training(run.deadline)
    return _OF_BENCH[part](bench)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
