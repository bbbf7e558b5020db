"""A bar for work of many short steps."""

import sys
import time
from typing import Self, TextIO

from tqdm import tqdm


class Progress:
    """A bar in a terminal; in a file or a pipe, lines for some of the steps."""

    def __init__(self, total: int, *, file: TextIO | None = None, every: int = 20):
        """`total`: steps; `file`: receives lines where there is no bar, and `every` how many."""
        # No rate and no remaining time, as steps of compiling and of decoding differ in length.
        bar_format = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"
        self._bar = tqdm(total=total, disable=None, leave=False, bar_format=bar_format)
        self._bar.set_postfix_str("compiling")
        self._file, self._every = file or sys.stdout, every
        self._total, self._done, self._start = total, 0, time.perf_counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def __call__(self, what: str) -> None:
        """Counts a step, of which `what` says what was done."""
        self._done += 1
        self._bar.set_postfix_str(what, refresh=False)
        self._bar.update()
        if self._bar.disable and (what.endswith("compiled") or self._done % self._every == 0):
            seconds = time.perf_counter() - self._start
            line = f"[{seconds:5.1f} s] {self._done}/{self._total} {what}"
            print(line, file=self._file, flush=True)
