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
        self._rates: dict[str, list[float]] = {}  # seconds per token that was asked for, by pair
        for row in rows:
            self.add(row)

    def add(self, row: Row) -> None:
        """Takes in the time of a finished row."""
        part = row.decoding
        if part is None:
            return
        # The first call is made twice more, to compile and to measure the time of compiling.
        # If the phases of a block are timed, compiling takes about twice as long; expected tokens
        # take another program and another run, which is slower.
        calls = -(-part.num_prompts // (self._sweep.batch_size * self._sweep.batches_in_call))
        again = row.expected is not None
        seconds = part.seconds * (1 + 2 / calls + 2 * again)
        compiling = 1 + bool(self._sweep.phase_repeats) + again
        seconds += (part.compile_time or 0.0) * compiling
        for key in ((row.pair, row.task, row.method), (row.pair, row.task)):
            self._known.setdefault(key, []).append(seconds)
        if row.task in self._sweep.tasks:
            self._rates.setdefault(row.pair, []).append(seconds / self._tokens(row.task))

    def cell(self, cell: Cell) -> float:
        """Median over rows of the same pair, task and method, else pair and task.

        Without such rows, the median of seconds per token over the pair's rows of other tasks,
        times the tokens of this task; without rows, a guess from the settings.
        """
        for key in ((cell.pair, cell.task, cell.method[0]), (cell.pair, cell.task)):
            if key in self._known:
                return statistics.median(self._known[key])
        tokens, expected = self._tokens(cell.task), self._sweep.estimate
        if cell.pair in self._rates:
            return statistics.median(self._rates[cell.pair]) * tokens
        return expected.compile_seconds + tokens / expected.tokens_per_second

    def _tokens(self, task: str) -> int:
        """The most tokens that a cell of a task decodes."""
        settings = self._sweep.tasks[task]
        return settings.num_prompts * settings.max_new_tokens

    def turns(self, turns: Sequence[Turn]) -> float:
        """Seconds of turns; each turn decodes the baseline again."""
        return sum(
            self.cell(Cell(turn.pair, turn.task, turn.temperature, turn.seed, BASELINE_KEY))
            + sum(self.cell(cell) for cell in turn.cells if not cell.is_baseline)
            for turn in turns
        )


class TimeLeft:
    """Follows a running sweep; the time left comes from the cells that are left, not from a clock.

    The caller adds finished rows to the estimate.
    """

    def __init__(self, estimate: TimeEstimate, ahead: Sequence[Turn]):
        """`ahead`: all turns of the run."""
        self._estimate, self._ahead = estimate, list(ahead)
        self._turn: Turn | None = None
        self._steps = self._done = 0

    def turn(self, turn: Turn, steps: int) -> None:
        """A turn of `steps` steps begins."""
        self._turn, self._steps, self._done = turn, steps, 0
        if turn in self._ahead:
            self._ahead.remove(turn)

    def step(self) -> None:
        """A step is done."""
        self._done += 1

    def seconds(self) -> float:
        """Seconds for the rest of the turn and for the turns after it."""
        later = self._estimate.turns(self._ahead)
        if self._turn is None:
            return later
        left = max(0.0, 1.0 - self._done / max(self._steps, 1))
        return left * self._estimate.turns([self._turn]) + later


def in_words(seconds: float) -> str:
    """ "40 s", "12 min" or "3 h 20 min"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
