"""Estimates how long cells take: from finished rows if there are any, else from the settings."""

import statistics
from collections.abc import Iterable, Sequence

from rsd_jax.evaluation.sweep.cells import Cell, Turn
from rsd_jax.evaluation.sweep.definition import BASELINE_KEY, Sweep
from rsd_jax.records.rows import Row


class TimeEstimate:
    """Estimates the seconds of cells and turns, with compilation and warm-up."""

    def __init__(self, sweep: Sweep, rows: Iterable[Row] = ()):
        self._sweep = sweep
        self._known: dict[tuple[str, ...], list[float]] = {}
        for row in rows:
            self.add(row)

    def add(self, row: Row) -> None:
        """Takes in the time of a finished row."""
        part = row.decoding
        if part is None:
            return
        # The first batch is decoded twice more, to compile and to measure the time of compiling.
        # If the phases of a block are timed, compiling takes about twice as long; expected tokens
        # take another program and another run, which is slower.
        batches = -(-part.num_prompts // self._sweep.batch_size)
        again = row.expected is not None
        seconds = part.seconds * (1 + 2 / batches + 2 * again)
        compiling = 1 + bool(self._sweep.phase_repeats) + again
        seconds += (part.compile_time or 0.0) * compiling
        for key in ((row.pair, row.task, row.method), (row.pair, row.task)):
            self._known.setdefault(key, []).append(seconds)

    def cell(self, cell: Cell) -> float:
        """Median over rows of the same pair, task and method, else pair and task; else a guess."""
        for key in ((cell.pair, cell.task, cell.method[0]), (cell.pair, cell.task)):
            if key in self._known:
                return statistics.median(self._known[key])
        settings, expected = self._sweep.tasks[cell.task], self._sweep.estimate
        tokens = settings.num_prompts * settings.max_new_tokens
        return expected.compile_seconds + tokens / expected.tokens_per_second

    def turns(self, turns: Sequence[Turn]) -> float:
        """Seconds of turns; each turn decodes the baseline again."""
        return sum(
            self.cell(Cell(turn.pair, turn.task, turn.temperature, turn.seed, BASELINE_KEY))
            + sum(self.cell(cell) for cell in turn.cells if not cell.is_baseline)
            for turn in turns
        )


def in_words(seconds: float) -> str:
    """ "40 s", "12 min" or "3 h 20 min"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
