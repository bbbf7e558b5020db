"""What a search leaves behind: its iterations, and where the time of each batch went."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator

PHASES = ("prefill", "decode", "suggest", "matchness", "read")
SEARCHING = ("suggest", "matchness", "read")
"""The phases that are there for the search alone."""


@dataclasses.dataclass(frozen=True)
class Iteration:
    """One candidate.

    Attributes:
      instance: index of the batch in which it was scored.
      score: its matchness.
      adopted: whether it is used since.
      suggested: whether it was a Bayesian suggestion.
      skipped: sub-layers that it skips.
    """

    instance: int
    score: float
    adopted: bool
    suggested: bool
    skipped: int


@dataclasses.dataclass(frozen=True)
class InstanceTrace:
    """One batch of prompts, from prefill to its last token; compilation is in the first.

    Attributes:
      tokens: new tokens, cut at EOS and at max_new_tokens.
      iterations: candidates scored in it.
      best_score: best score so far at its end.
      steps: calls of `advance`.
      host_reads: transfers from the device, the final one included.
      draft_passes: by (attentions, MLPs) skipped in them, as in `stats.drafted` of all rows: what
        the cost of a draft pass follows from.
      seconds: by phase: "prefill"; "decode", the calls of `advance`; "suggest", the proposal of
        candidates on the host; "matchness", their passes; "read", the transfers of scores.
      total_seconds: of the batch, by the clock.
    """

    tokens: int
    iterations: int
    best_score: float
    steps: int
    host_reads: int
    draft_passes: dict[tuple[int, int], int]
    seconds: dict[str, float]
    total_seconds: float


class Clock:
    """Adds up the seconds of phases."""

    def __init__(self):
        self._begin = time.perf_counter()
        self.seconds = dict.fromkeys(PHASES, 0.0)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Counts what runs inside."""
        begin = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - begin

    def total(self) -> float:
        """Seconds since the clock was made."""
        return time.perf_counter() - self._begin
