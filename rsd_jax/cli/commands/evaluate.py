"""`rsd evaluate`: runs the cells of an experiment that are missing, and writes a row for each."""

import argparse
import contextlib
import functools
import sys
from collections.abc import Callable
from typing import Any

from tqdm import tqdm

from rsd_jax.cli.interrupts import keeping
from rsd_jax.cli.pairs import load_pair
from rsd_jax.core.sharding import make_mesh
from rsd_jax.errors import ConfigError
from rsd_jax.evaluation.sweep.cells import Turn, missing_cells, turns
from rsd_jax.evaluation.sweep.definition import Sweep
from rsd_jax.evaluation.sweep.estimate import TimeEstimate, TimeLeft, in_words
from rsd_jax.evaluation.sweep.listing import listing
from rsd_jax.evaluation.sweep.run import results_path, run_sweep
from rsd_jax.models.pairs import LoadedPair
from rsd_jax.planning.calibration import Calibration, load_calibration
from rsd_jax.records.files import known_rows
from rsd_jax.records.rows import Row
from rsd_jax.reporting.panels import latest_rows


def run(args: argparse.Namespace) -> None:
    """Lists the cells or measures them; exits with a message if cells failed."""
    chosen = {"tasks": args.tasks, "retry_failed": args.retry_failed}
    sweep, load = Sweep.from_config(args.config), load_pair
    if args.calibration:
        sweep, load = _with_fastest(sweep, load_calibration(args.calibration))
    rows = known_rows(results_path(sweep))
    missing = missing_cells(sweep, rows, **chosen)
    if args.dry_run:
        print(listing(sweep, missing, TimeEstimate(sweep, rows)))
        return
    results_path(sweep).parent.mkdir(parents=True, exist_ok=True)  # an error comes before measuring
    load = functools.partial(load, mesh=make_mesh(sweep.mesh))
    watcher = _Watcher(sweep, turns(sweep, missing), len(missing))
    with keeping(watcher.kept), contextlib.closing(watcher):
        written = run_sweep(sweep, load, watcher, **chosen)
    counts = ", ".join(f"{count} {status}" for status, count in sorted(written.items()))
    print(f"{counts or 'nothing was missing'}; rows: {results_path(sweep)}")
    failed = sum(row.status == "failed" for row in latest_rows(known_rows(results_path(sweep))))
    if failed:
        sys.exit(
            f"{failed} cells failed, see the messages in their rows; --retry_failed repeats them"
        )


def _with_fastest(
    sweep: Sweep, calibration: Calibration
) -> tuple[Sweep, Callable[..., LoadedPair]]:
    """The sweep with the fastest method of each temperature, and `load_pair` with a check.

    Raises:
      ConfigError: a temperature was not calibrated, or a task has other filters; when a pair is
        loaded, also if the calibration is of another pair or machine.
    """
    filters = calibration.conditions.top_k, calibration.conditions.top_p
    for name, settings in sweep.tasks.items():
        if (settings.top_k, settings.top_p) != filters:
            raise ConfigError(
                f"--calibration is for top_k={filters[0]}, top_p={filters[1]}; tasks.{name} has "
                f"top_k={settings.top_k}, top_p={settings.top_p}: calibrate with these"
            )
    temperatures = {t for settings in sweep.tasks.values() for t in settings.temperatures}
    fastest = [calibration.best(temperature).build() for temperature in sorted(temperatures)]

    def load(*args: Any, **options: Any) -> LoadedPair:
        pair = load_pair(*args, **options)
        calibration.check(pair.target, pair.draft, top_k=filters[0], top_p=filters[1])
        return pair

    return sweep.with_methods(fastest), load


class _Watcher:
    """A bar in a terminal; in a file or a pipe, a line per row."""

    def __init__(self, sweep: Sweep, ahead: list[Turn], cells: int):
        self._per_turn = [
            len(turn.methods) * (1 + -(-sweep.tasks[turn.task].num_prompts // sweep.batch_size))
            for turn in ahead
        ]
        bar_format = "{l_bar}{bar}| [{elapsed}{postfix}]"
        self._bar = tqdm(total=sum(self._per_turn), disable=None, bar_format=bar_format)
        self._cells, self._rows, self._turn = cells, 0, 0
        self._path = results_path(sweep)
        self._estimate = TimeEstimate(sweep, known_rows(results_path(sweep)))
        self._time_left = TimeLeft(self._estimate, ahead)

    def turn(self, turn: Turn, steps: int, seconds_left: float) -> None:
        # The first count included prompts that are too long to be decoded.
        self._bar.total += steps - self._per_turn[self._turn]
        self._turn += 1
        self._time_left.turn(turn, steps)

    def step(self, done: str) -> None:
        self._time_left.step()
        self._bar.set_postfix_str(f"{self._left()}, {done}", refresh=False)
        self._bar.update()

    def row(self, row: Row) -> None:
        self._rows += 1
        self._estimate.add(row)
        text = row.message or "measured"
        part = row.decoding
        if part is not None:
            text = f"{part.block_efficiency:.2f} tokens per call, {part.token_rate_ratio:.2f} x AR"
        line = (
            f"{self._rows}/{self._cells} {row.pair} {row.task} T={row.temperature:g} "
            f"seed {row.seed} {row.variant} {row.tree}: {text}"
        )
        if row.num_skipped:
            line += f" ({row.num_skipped} prompts too long, left out)"
        if self._bar.disable:
            print(f"{line}; {self._left()}", flush=True)
        else:
            self._bar.write(line)

    def _left(self) -> str:
        return f"about {in_words(self._time_left.seconds())} left"

    def kept(self) -> str:
        """What is kept of a sweep that is stopped."""
        return (
            f"{self._rows} of {self._cells} cells were measured, their rows are in {self._path}; "
            "the same command goes on with the missing cells"
        )

    def close(self) -> None:
        self._bar.close()
