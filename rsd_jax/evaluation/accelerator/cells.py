"""Cells of a measurement, and the loop that measures those that are missing until time is up."""

import dataclasses
import gc
import pathlib
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from rsd_jax.records.device_parts import SOURCE
from rsd_jax.records.files import append_row, known_rows, to_json
from rsd_jax.records.rows import Row

_LONGEST_MESSAGE = 300  # characters of an error in a row; compilers write pages


@dataclasses.dataclass(frozen=True)
class Cell:
    """What becomes one row.

    Attributes:
      part: part of the measurement, a name in `PARTS`.
      name: identifies the cell within its part.
      header: returns the fields of the row that are known before anything is measured, but for
        source, experiment and config_hash; must not fail.
      measure: returns the parts of the row, by name.
    """

    part: str
    name: str
    header: Callable[[], dict[str, Any]]
    measure: Callable[[], dict[str, Any]]


class TimeUpError(RuntimeError):
    """A cell stopped because time was up; the next call goes on with the cell."""


@dataclasses.dataclass(frozen=True)
class Progress:
    """What a call of `measure_cells` did.

    Attributes:
      measured: rows that were written.
      left: cells that are still missing, because time was up.
      failed: rows that say that their cell failed, other than by not fitting.
    """

    measured: int
    left: int
    failed: int


def measure_cells(
    cells: Sequence[Cell],
    hash_of: Callable[[str, str], str],
    path: pathlib.Path,
    *,
    deadline: float,
    say: Callable[[str], None],
    release: Callable[[], None] = lambda: None,
) -> Progress:
    """Measures every cell that has no row yet, in order, and appends each row at once.

    A cell that does not fit into the device's memory gets a row of status "skipped". A cell that
    fails otherwise gets a row of status "failed", and the next call measures it again.

    Args:
      cells: in order of worth.
      hash_of: part and name of a cell to `config_hash`, which decides whether a row is of a cell.
      path: file of the rows.
      deadline: no cell is begun after this time, in seconds of `time.monotonic`.
      say: called with a line of text before and after each cell.
      release: frees what cells share, called after a cell that did not fit.

    Raises:
      ConfigError: the file holds a line that is no row.
    """
    done = {row.config_hash for row in known_rows(path) if row.status != "failed"}
    missing = [cell for cell in cells if hash_of(cell.part, cell.name) not in done]
    failed = 0
    for index, cell in enumerate(missing):
        if time.monotonic() >= deadline:
            return Progress(index, len(missing) - index, failed)
        say(f"{cell.part}: {cell.name} ...")
        begin = time.monotonic()
        try:
            row = _row(cell, hash_of(cell.part, cell.name))
        except TimeUpError as error:
            say(f"{cell.part}: {cell.name}: {error}")
            return Progress(index, len(missing) - index, failed)
        append_row(path, row)
        if row.status == "skipped":
            release()
        failed += row.status == "failed"
        gc.collect()  # closures of a cell refer to each other, and hold arrays on the device
        why = "" if row.status == "ok" else f": {row.status}, {row.message}"
        say(f"{cell.part}: {cell.name} took {time.monotonic() - begin:.1f} s{why}")
    return Progress(len(missing), 0, failed)


def _row(cell: Cell, config_hash: str) -> Row:
    """The row of a cell; it says why if the cell cannot be measured."""
    known = {"source": SOURCE, "experiment": cell.part, "config_hash": config_hash}
    fields = cell.header() | known
    try:
        row = Row(**fields, **cell.measure())
        to_json(row)  # a malformed row, such as one with NaN, fails here, not when it is appended
        return row
    except TimeUpError:
        raise
    except Exception as error:  # a card is at hand for minutes: the other cells go on
        text = " ".join(f"{type(error).__name__}: {error}".split())[:_LONGEST_MESSAGE]
        if not _does_not_fit(error):
            traceback.print_exc()
            return Row(**fields, status="failed", message=text)
        return Row(**fields, status="skipped", message=f"does not fit: {text}")


def _does_not_fit(error: Exception) -> bool:
    """Whether an error says that memory is exhausted: of JAX, of PyTorch or of the host."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    return "resource_exhausted" in text or "out of memory" in text
