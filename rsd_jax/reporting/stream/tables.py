"""Tables of streams of prompts: latency by phase, what the search takes, and a summary."""

from collections.abc import Callable, Sequence

from rsd_jax.records.rows import Row
from rsd_jax.reporting.stream.streams import PromptStream
from rsd_jax.reporting.table_formats import Table, number

# Published name of each phase, by its name in rows.
MODULES = {"optimize": "Optimize", "draft": "Draft", "verify": "Verify", "others": "Others"}

# What a search does, by its name in rows.
SEARCH = {"suggest": "suggestions", "matchness": "matchness passes", "read": "host reads"}


def latency_table(stream: PromptStream) -> Table:
    """Milliseconds per token by module, with standard deviations over instances.

    Args:
      stream: with phases, of a run with a program for each of them.
    """
    assert stream.whole is not None
    times = stream.phases or {}
    deviations = stream.whole.value("token_phase_deviations") or {}
    total = sum(times.get(name, 0.0) for name in MODULES)

    def line(label: str, seconds: float, deviation: float | None) -> tuple[str, str, str]:
        spread = "" if deviation is None else f" ± {1e3 * deviation:.2f}"
        share = f"{100 * seconds / total:.1f}" if total else "-"
        return label, f"{1e3 * seconds:.2f}{spread}", share

    lines = [line(MODULES[n], times.get(n, 0.0), deviations.get(n)) for n in MODULES]
    lines.append(line("Total", total, deviations.get("total")))
    return Table(("Modules", "Latency (ms)", "Ratio (%)"), lines, frozenset({0}))


def search_table(streams: Sequence[PromptStream]) -> Table:
    """Microseconds per token that the search took: over all instances, and until it stopped."""
    heads = ("stream", "instances", "candidates", *(f"{name} (us)" for name in SEARCH.values()))
    lines = []
    for stream in streams:
        parts = [stream.instances]
        if stream.stopped_after not in (None, len(stream.instances)):
            parts.append(stream.instances[: stream.stopped_after])
        for part in parts:
            if any(row.value("search_times") is None for row in part):
                continue
            tokens = sum(row.value("tokens") for row in part)
            spent = [
                sum(row.value("search_times")[name] * row.value("tokens") for row in part)
                for name in SEARCH
            ]
            share = sum(spent) / sum(row.value("seconds") for row in part)
            lines.append(
                (
                    stream.label,
                    f"1 to {len(part)}",
                    str(sum(row.value("candidates") or 0 for row in part)),
                    *(f"{1e6 * seconds / tokens:.1f}" for seconds in spent),
                    f"{1e6 * sum(spent) / tokens:.1f}",
                    f"{100 * share:.2f}",
                )
            )
    return Table((*heads, "sum (us)", "of the time (%)"), lines, frozenset({0, 1}))


def summary_table(streams: Sequence[PromptStream]) -> Table:
    """One line per stream: what the whole of it came to."""
    lines = [[tell(stream) for tell in _SUMMARY.values()] for stream in streams]
    return Table(tuple(_SUMMARY), lines, frozenset({0}))


def _of_last(field: str) -> Callable[[PromptStream], str]:
    return lambda stream: number(stream.instances[-1].value(field), 2)


def _of_whole(field: str, digits: int = 2) -> Callable[[PromptStream], str]:
    def tell(stream: PromptStream) -> str:
        return "-" if stream.whole is None else number(stream.whole.value(field), digits)

    return tell


def _per_draft_pass(count: Callable[[Row], int]) -> Callable[[PromptStream], str]:
    def tell(stream: PromptStream) -> str:
        passes = stream.whole and stream.whole.value("drafted")
        return number(count(stream.whole) / passes, 2) if stream.whole and passes else "-"

    return tell


def _speed_up(stream: PromptStream) -> str:
    return "-" if stream.whole is None else _of_last("overall_ratio")(stream)


def _fused(stream: PromptStream) -> str:
    """Milliseconds per token of the run that was timed as a whole."""
    each = [row.value("seconds") / row.value("tokens") for row in stream.instances]
    return "-" if stream.whole is None else number(1e3 * sum(each) / len(each), 2)


def _phases(stream: PromptStream) -> str:
    times = stream.phases or {}
    return number(1e3 * sum(times.get(name, 0.0) for name in MODULES) or None, 2)


# What a line of the summary says, by the head of its column.
_SUMMARY: dict[str, Callable[[PromptStream], str]] = {
    "stream": lambda stream: stream.label,
    "instances": lambda stream: str(len(stream.instances)),
    "stopped after": lambda stream: number(stream.stopped_after, 0),
    "matchness": _of_last("matchness"),
    "kept": _of_last("kept_fraction"),
    "tokens per call": _of_whole("block_efficiency"),
    "MBSU": _of_whole("mbsu"),
    "accepted / drafted": _per_draft_pass(lambda row: row.value("produced") - row.value("blocks")),
    # Those that no sibling was rejected before.
    "of the chain": _per_draft_pass(lambda row: (row.value("accepted_ranks") or [0])[0]),
    "candidates": _of_whole("candidates", 0),
    "speed-up": _speed_up,
    "fused ms/token": _fused,
    "phases ms/token": _phases,
}
