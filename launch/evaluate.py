"""Runs an experiment: python launch/evaluate.py --config=configs/evaluate/experiment1.py:quick.

Every cell (pair, task, method, verifier, tree, temperature, seed) becomes a row of results.jsonl in
the configuration's `out_dir` once it is measured; started again, it goes on with what is missing.
Any value can be set, e.g. --config.tasks.number_words.num_prompts=8, or
--config.pairs.llama2_7b.target=/models/Llama-2-7b-hf. `--dry_run` lists the cells and the time they
may take. launch/plot.py draws the rows.
"""

import functools
import os
import pathlib
import sys
import time

_ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(_ROOT))
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # that PyTorch is missing

from absl import app, flags, logging  # noqa: E402
from ml_collections import config_flags  # noqa: E402
from tqdm import tqdm  # noqa: E402

import rsd_jax  # noqa: E402
from launch.pairs import load_pair, make_mesh  # noqa: E402
from rsd_jax.evaluation.sweep.cells import Turn, missing_cells, turns  # noqa: E402
from rsd_jax.evaluation.sweep.definition import Sweep  # noqa: E402
from rsd_jax.evaluation.sweep.estimate import TimeEstimate, in_words  # noqa: E402
from rsd_jax.evaluation.sweep.listing import listing  # noqa: E402
from rsd_jax.evaluation.sweep.run import results_path, run_sweep  # noqa: E402
from rsd_jax.records.files import known_rows  # noqa: E402
from rsd_jax.records.rows import Row  # noqa: E402
from rsd_jax.reporting.panels import latest_rows  # noqa: E402

_CONFIG = config_flags.DEFINE_config_file(
    "config", str(_ROOT / "configs/evaluate/experiment1.py:quick")
)
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Lists the cells and the estimated time.")
_TASKS = flags.DEFINE_list(
    "tasks", None, "Measures these alone, for sharing a sweep; each process has its own out_dir."
)
_RETRY = flags.DEFINE_bool("retry_failed", False, "Measures cells that failed before once more.")


def main(_: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)  # jax tells which accelerators are missing
    try:
        chosen = {"tasks": _TASKS.value, "retry_failed": _RETRY.value}
        sweep = Sweep.from_config(_CONFIG.value)
        rows = known_rows(results_path(sweep))
        missing = missing_cells(sweep, rows, **chosen)
        if _DRY_RUN.value:
            print(listing(sweep, missing, TimeEstimate(sweep, rows)))
            return
        watcher = _Watcher(sweep, turns(sweep, missing), len(missing))
        load = functools.partial(load_pair, mesh=make_mesh(sweep.mesh))
        written = run_sweep(sweep, load, watcher, **chosen)
        watcher.close()
    except (rsd_jax.ConfigError, rsd_jax.CheckpointError, rsd_jax.NonFiniteLogitsError) as error:
        sys.exit(f"error: {error}")
    counts = ", ".join(f"{count} {status}" for status, count in sorted(written.items()))
    print(f"{counts or 'nothing was missing'}; rows: {results_path(sweep)}")
    failed = sum(row.status == "failed" for row in latest_rows(known_rows(results_path(sweep))))
    if failed:
        sys.exit(
            f"{failed} cells failed, see their rows' messages; --retry_failed tries them again"
        )


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
        self._ends = time.perf_counter()

    def turn(self, turn: Turn, steps: int, seconds_left: float) -> None:
        # Prompts that are too long were counted, but will not be decoded.
        self._bar.total += steps - self._per_turn[self._turn]
        self._turn += 1
        self._ends = time.perf_counter() + seconds_left

    def step(self, done: str) -> None:
        self._bar.set_postfix_str(f"{self._left()}, {done}", refresh=False)
        self._bar.update()

    def row(self, row: Row) -> None:
        self._rows += 1
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
        return f"about {in_words(max(self._ends - time.perf_counter(), 0.0))} left"

    def close(self) -> None:
        self._bar.close()


if __name__ == "__main__":
    app.run(main)
