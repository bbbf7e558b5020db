"""Streams of prompts, decoded one after the other while a search goes on (Xia et al. 2025).

`rsd_jax.stream`, in contrast, streams the tokens of one call.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Sequence

from rsd_jax.records.rows import Row
from rsd_jax.reporting.names import pretty

_BASELINE = "ar"


@dataclasses.dataclass(frozen=True)
class PromptStream:
    """One method on one stream.

    Attributes:
      label: pair, task, method, tree, skip ratio, temperature, seed.
      instances: rows of the method, in order.
      whole: row of the method over all instances; None if the run did not finish.
    """

    label: str
    instances: tuple[Row, ...]
    whole: Row | None

    @property
    def phases(self) -> dict[str, float] | None:
        """Seconds per token by phase, if the stream was decoded phase by phase."""
        return self.whole.value("token_phase_times") if self.whole is not None else None

    @property
    def stopped_after(self) -> int | None:
        """Number of instances until the search stopped; None if it went on to the end."""
        for count, row in enumerate(self.instances, start=1):
            if row.value("searching") is False:
                return count
        return None


def streams_of(rows: Sequence[Row]) -> list[PromptStream]:
    """Groups finished rows of streams; of repeated rows of an instance the last one counts."""
    grouped: dict[tuple, dict[int | None, Row]] = defaultdict(dict)
    for row in rows:
        if row.kind == "stream" and row.method != _BASELINE and row.status == "ok":
            key = (row.pair, row.task, row.variant, row.tree, row.temperature, row.seed)
            grouped[*key, row.config_hash][row.value("instance")] = row
    found = []
    for by_instance in grouped.values():
        whole = by_instance.pop(None, None)
        instances = tuple(by_instance[i] for i in sorted(i for i in by_instance if i is not None))
        if instances:
            found.append(PromptStream(_label(instances[-1]), instances, whole))
    return found


def _label(row: Row) -> str:
    words = f"{pretty(row.pair)} / {pretty(row.task)}, {row.variant} {row.tree}"
    if row.target_budget is not None:
        words += f" of up to {row.target_budget} nodes"
    if (ratio := row.value("skip_ratio")) is not None:
        words += f", {ratio:g} skipped"
    return f"{words}, T = {row.temperature:g}" + (f", seed {row.seed}" if row.seed else "")
