"""Runs a sweep: measures every missing cell with its baseline and appends its row at once."""

import collections
import pathlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Protocol

import jax

from rsd_jax.core.processes import on_writer, writer_holds
from rsd_jax.engine.methods import Method
from rsd_jax.errors import ConfigError, NonFiniteLogitsError
from rsd_jax.evaluation.comparison import steps
from rsd_jax.evaluation.empty_answers import EmptyAnswers
from rsd_jax.evaluation.sweep.cells import Cell, Turn, alone, belongs, missing_cells, turns
from rsd_jax.evaluation.sweep.definition import MethodKey, Sweep
from rsd_jax.evaluation.sweep.estimate import TimeEstimate
from rsd_jax.evaluation.sweep.measure import failed_row, measure_turn
from rsd_jax.evaluation.sweep.settings import PairSource
from rsd_jax.evaluation.sweep.subjects import Asked, Pair, Subject, read_tasks, subjects_of
from rsd_jax.records.files import append_row, known_rows
from rsd_jax.records.lock import sole_writer
from rsd_jax.records.rows import Row

# Errors of one cell that let the sweep go on. Any other error is a bug and ends the sweep.
_OF_ONE_HOST = (jax.errors.JaxRuntimeError, MemoryError)
_FAILURES = (ConfigError, NonFiniteLogitsError, *_OF_ONE_HOST)


class Watcher(Protocol):
    """Follows the progress of a sweep."""

    def turn(self, turn: Turn, steps: int, seconds_left: float) -> None:
        """A turn of `steps` steps begins; `seconds_left` is an estimate for all remaining turns."""
        ...

    def step(self, done: str) -> None:
        """A step is done."""
        ...

    def row(self, row: Row) -> None:
        """A row was written."""
        ...


def results_path(sweep: Sweep) -> pathlib.Path:
    """The file of a sweep's rows."""
    return pathlib.Path(sweep.out_dir) / "results.jsonl"


def run_sweep(
    sweep: Sweep,
    load: Callable[[PairSource], Pair],
    watcher: Watcher,
    *,
    tasks: Collection[str] | None = None,
    retry_failed: bool = False,
) -> collections.Counter[str]:
    """Measures the cells that are missing in results.jsonl, as the sole writer of its folder.

    With several processes, the first reads and writes the file for all.

    A cell that cannot be measured gets a row that says why; the sweep goes on. A task of which all
    answers are empty gets one warning per pair.

    Args:
      sweep: what to measure.
      load: loads a pair; one pair at a time is in memory.
      watcher: follows the progress.
      tasks: tasks to measure, None for all; see `missing_cells`.
      retry_failed: whether cells that failed before are tried again.

    Returns:
      the number of rows written, by status.

    Raises:
      ConfigError: a task cannot be read, or the file holds cells that were measured with other
        settings, prompts or weights; rows that were written stay. Or another process writes there.
      CheckpointError: a pair cannot be loaded.
    """
    path = results_path(sweep)
    known = on_writer(known_rows, path)
    missing = missing_cells(sweep, known, tasks=tasks, retry_failed=retry_failed)
    # All tasks are read before any pair is loaded, so that a missing data set is found at once.
    asked = {pair: read_tasks(sweep, pair) for pair in dict.fromkeys(c.pair for c in missing)}
    with writer_holds(lambda: sole_writer(path.parent)):
        # Another process may have written rows before this one had the folder to itself.
        rows = on_writer(known_rows, path)
        missing = missing_cells(sweep, rows, tasks=tasks, retry_failed=retry_failed)
        return _run(sweep, load, watcher, rows, missing, asked)


def _run(
    sweep: Sweep,
    load: Callable[[PairSource], Pair],
    watcher: Watcher,
    rows: Sequence[Row],
    missing: Sequence[Cell],
    asked: Mapping[str, dict[str, Asked]],
) -> collections.Counter[str]:
    """Measures the missing cells, with the folder to itself.

    Args:
      sweep, load, watcher: as in `run_sweep`.
      rows: of the file.
      missing: cells without a row.
      asked: the tasks of each pair, from `read_tasks`.
    """
    path, estimate = results_path(sweep), TimeEstimate(sweep, rows)
    methods = sweep.methods()
    written: collections.Counter[str] = collections.Counter()

    def keep(row: Row) -> None:
        on_writer(append_row, path, row)
        estimate.add(row)
        watcher.row(row)
        written[row.status] += 1

    ahead = turns(sweep, missing)
    for name, source in sweep.pairs.items():
        own, empty = [turn for turn in ahead if turn.pair == name], EmptyAnswers()
        if not own:
            continue
        subjects = subjects_of(sweep, load(source), name, asked[name])
        for subject in subjects.values():
            _check_identity(subject, rows, path)
        part = own[0].part
        for turn in own:
            if turn.part != part:
                # A process can map only so much compiled code: on the CPU the compiler fails after
                # about seventy trees.
                jax.clear_caches()
                part = turn.part
            subject = subjects[turn.task]
            listed = [methods[method] for method in turn.methods]
            size = sweep.batch_size, sweep.batches_in_call
            count = steps(listed, subject.encoded.tokens, *size)
            count += sum(not cell.is_baseline for cell in turn.cells) if sweep.expected else 0
            watcher.turn(turn, count, estimate.turns(ahead))
            for row in _turn_rows(turn, subject, methods, watcher.step, empty):
                keep(row)
            ahead.remove(turn)
    return written


def _check_identity(subject: Subject, rows: Sequence[Row], path: pathlib.Path) -> None:
    """Raises `ConfigError` if rows of the same pair and task have other prompts or weights."""
    for row in rows:
        same = (row.pair, row.task) == (subject.pair, subject.task_name)
        if not same or not belongs(subject.sweep, row) or row.status == "failed":
            continue
        for what, was, now in (
            ("prompts", row.prompts_sha256, subject.encoded.sha256),
            ("references", row.references_sha256, subject.encoded.references_sha256),
            ("ends of an answer", row.eos_ids, list(subject.ends)),
            ("weights", row.weights_sha256, subject.weights_sha256),
            ("floating types", row.dtype, subject.models.target.model.dtype),
        ):
            if was is not None and was != now:
                raise ConfigError(
                    f"{path} holds rows of {row.pair} on {row.task} that were measured with other "
                    f"{what} than those found now; set --config.out_dir to a new folder"
                )


def _turn_rows(
    turn: Turn,
    subject: Subject,
    methods: dict[MethodKey, Method],
    step: Callable[[str], None],
    empty: EmptyAnswers,
) -> Iterator[Row]:
    """Rows of the turn's cells; if a cell fails, each is measured alone, so that only it fails."""
    try:
        rows = measure_turn(turn, subject, methods, step, empty)
    except _FAILURES as error:
        if isinstance(error, _OF_ONE_HOST) and jax.process_count() > 1:
            raise  # the hosts no longer agree; the cell is missing when the sweep goes on
        if len(turn.cells) == 1:
            cell = turn.cells[0]
            reason = f"{type(error).__name__}: {error}"
            rows = [failed_row(cell, subject, methods[cell.method], reason)]
        else:
            step(f"{turn.task}: a cell failed, each is measured alone")
            for single in alone(turn):
                yield from _turn_rows(single, subject, methods, step, empty)
            return
    yield from rows
