"""The trace of a search: its iterations, and the time of each batch by phase."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator

PHASES = ("prefill", "decode", "suggest", "matchness", "read")
SEARCHING = ("suggest", "matchness", "read")
"""The phases that only a search has."""


@dataclasses.dataclass(frozen=True)
class Iteration:
    """One candidate that was scored.

    Attributes:
      instance: index of the batch in which the candidate was scored.
      score: matchness of the candidate.
      adopted: whether the candidate became the set in use.
      suggested: whether the candidate was a Bayesian suggestion.
      skipped: number of sub-layers that the candidate skips.
    """

    instance: int
    score: float
    adopted: bool
    suggested: bool
    skipped: int


@dataclasses.dataclass(frozen=True)
class InstanceTrace:
    """One batch of prompts, from prefill to the last token; the first one includes compilation.

    Attributes:
      tokens: number of new tokens, cut at EOS and at max_new_tokens.
      iterations: number of candidates scored during the batch.
      best_score: best score so far, at the end of the batch.
      steps: calls of `advance`.
      host_reads: transfers from the device, the final one included.
      draft_passes: number of draft passes (as in `stats.drafted`, over all rows) by the numbers of
        (attentions, MLPs) that the passes skip, which determine the cost of a pass.
      seconds: by phase: "prefill"; "decode", the calls of `advance`; "suggest", the proposal of
        candidates on the host; "matchness", the passes that score candidates; "read", the transfers
        of scores.
      total_seconds: wall-clock time of the batch.
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
        """Adds the time inside the `with` block to a phase."""
        begin = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - begin

    def total(self) -> float:
        """Seconds since the clock was made."""
        return time.perf_counter() - self._begin
