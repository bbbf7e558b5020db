"""Streams of instances, decoded one after the other while a search goes on (Xia et al. 2025)."""

import dataclasses
from collections import defaultdict
from collections.abc import Sequence

from rsd_jax.records.rows import Row
from rsd_jax.reporting.experiments import pretty
from rsd_jax.reporting.table_formats import Table

STREAM = "stream"
"""The experiment of the rows."""

BASELINE = "ar"
# Published name of each phase, by its name in rows.
MODULES = {"optimize": "Optimize", "draft": "Draft", "verify": "Verify", "others": "Others"}

# What a search does, by its name in rows.
SEARCH = {"suggest": "suggestions", "matchness": "matchness passes", "read": "host reads"}


@dataclasses.dataclass(frozen=True)
class Stream:
    """One method on one stream.

    Attributes:
      label: pair, task, what is drafted and skipped, temperature, seed.
      instances: rows of the method, in order.
      whole: its row over all instances, with the phases; None if the run did not end.
    """

    label: str
    instances: tuple[Row, ...]
    whole: Row | None

    @property
    def stopped_after(self) -> int | None:
        """Instances until the search had stopped for good; None if it went on to the end."""
        for count, row in enumerate(self.instances, start=1):
            if row.searching is False:
                return count
        return None


def streams_of(rows: Sequence[Row]) -> list[Stream]:
    """Groups finished rows of streams; of an instance that was measured twice the last counts."""
    grouped: dict[tuple, dict[int | None, Row]] = defaultdict(dict)
    for row in rows:
        if row.experiment == STREAM and row.method != BASELINE and row.status == "ok":
            key = (row.pair, row.task, row.method, row.tree, row.temperature, row.seed)
            grouped[*key, row.config_hash][row.instance] = row
    found = []
    for by_instance in grouped.values():
        whole = by_instance.pop(None, None)
        instances = tuple(by_instance[i] for i in sorted(i for i in by_instance if i is not None))
        if instances:
            found.append(Stream(_label(instances[-1]), instances, whole))
    return found


def _label(row: Row) -> str:
    words = f"{pretty(row.pair)} / {pretty(row.task)}, {row.method} {row.tree}"
    if row.target_budget is not None:
        words += f" of up to {row.target_budget} nodes"
    if row.skip_ratio is not None:
        words += f", {row.skip_ratio:g} skipped"
    return f"{words}, T = {row.temperature:g}" + (f", seed {row.seed}" if row.seed else "")


def latency_table(whole: Row) -> Table:
    """Milliseconds per token by module, with standard deviations over instances.

    Args:
      whole: the row over all instances; its phases are of a run with a program for each of them.
    """
    times, deviations = whole.phase_times or {}, whole.phase_deviations or {}
    total = sum(times.get(name, 0.0) for name in MODULES)

    def line(label: str, seconds: float, deviation: float | None) -> tuple[str, str, str]:
        spread = "" if deviation is None else f" ± {1e3 * deviation:.2f}"
        share = f"{100 * seconds / total:.1f}" if total else "-"
        return label, f"{1e3 * seconds:.2f}{spread}", share

    lines = [line(MODULES[n], times.get(n, 0.0), deviations.get(n)) for n in MODULES]
    lines.append(line("Total", total, deviations.get("total")))
    return Table(("Modules", "Latency (ms)", "Ratio (%)"), lines, frozenset({0}))


def search_table(streams: Sequence[Stream]) -> Table:
    """Microseconds per token that the search took: over all instances, and until it stopped."""
    heads = ("stream", "instances", "candidates", *(f"{name} (us)" for name in SEARCH.values()))
    lines = []
    for stream in streams:
        parts = [stream.instances]
        if stream.stopped_after not in (None, len(stream.instances)):
            parts.append(stream.instances[: stream.stopped_after])
        for part in parts:
            if any(row.search_times is None for row in part):
                continue
            tokens = sum(row.tokens or 0 for row in part)
            spent = [sum((r.search_times or {})[n] * (r.tokens or 0) for r in part) for n in SEARCH]
            share = sum(spent) / sum(row.seconds or 0.0 for row in part)
            lines.append(
                (
                    stream.label,
                    f"1 to {len(part)}",
                    str(sum(row.candidates or 0 for row in part)),
                    *(f"{1e6 * seconds / tokens:.1f}" for seconds in spent),
                    f"{1e6 * sum(spent) / tokens:.1f}",
                    f"{100 * share:.2f}",
                )
            )
    return Table((*heads, "sum (us)", "of the time (%)"), lines, frozenset({0, 1}))


def summary_table(streams: Sequence[Stream]) -> Table:
    """One line per stream: what the whole of it came to."""
    heads = (
        "stream",
        "instances",
        "stopped after",
        "matchness",
        "kept",
        "tokens per call",
        "MBSU",
        "accepted / drafted",
        "of the chain",
        "candidates",
        "speed-up",
        "fused ms/token",
        "phases ms/token",
    )
    lines = []
    for stream in streams:
        last, whole = stream.instances[-1], stream.whole
        stop = stream.stopped_after
        cells = [
            stream.label,
            str(len(stream.instances)),
            "-" if stop is None else str(stop),
            _number(last.matchness),
            _number(last.kept_fraction),
        ]
        if whole is None:
            lines.append((*cells, *["-"] * 8))
            continue
        accepted = (whole.produced or 0) - (whole.blocks or 0)
        backbone = (whole.accepted_ranks or [0])[0]
        each = [(row.seconds or 0.0) / (row.tokens or 1) for row in stream.instances]
        fused = 1e3 * sum(each) / len(each)
        phases = 1e3 * sum((whole.phase_times or {}).get(name, 0.0) for name in MODULES)
        lines.append(
            (
                *cells,
                _number(whole.block_efficiency),
                _number(whole.mbsu),
                _number(accepted / whole.drafted if whole.drafted else None),
                _number(backbone / whole.drafted if whole.drafted else None),
                "-" if whole.candidates is None else str(whole.candidates),
                _number(last.overall_ratio),
                _number(fused),
                _number(phases or None),
            )
        )
    return Table(heads, lines, frozenset({0}))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
