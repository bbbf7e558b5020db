"""Tables of streams of prompts: latency by phase, times of the search, and a summary."""

from collections.abc import Callable, Sequence

from rsd_jax.records.rows import Row
from rsd_jax.reporting.stream.streams import PromptStream
from rsd_jax.reporting.table_formats import Table, number

# Published names of the phases, by their names in rows.
MODULES = {"optimize": "Optimize", "draft": "Draft", "verify": "Verify", "others": "Others"}

# Labels of the times of a search, by their names in rows.
SEARCH = {"suggest": "suggestions", "matchness": "matchness passes", "read": "host reads"}


def latency_table(stream: PromptStream) -> Table:
    """Milliseconds per token by module, with standard deviations over instances.

    Args:
      stream: a stream with phase times.
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
    """Microseconds per token of the search, over all instances and until the search stopped."""
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
    """One line per stream with the results over the whole stream."""
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
    """Milliseconds per token of the run with fused blocks."""
    each = [row.value("seconds") / row.value("tokens") for row in stream.instances]
    return "-" if stream.whole is None else number(1e3 * sum(each) / len(each), 2)


def _phases(stream: PromptStream) -> str:
    times = stream.phases or {}
    return number(1e3 * sum(times.get(name, 0.0) for name in MODULES) or None, 2)


# Columns of the summary: heading, and function of a stream.
_SUMMARY: dict[str, Callable[[PromptStream], str]] = {
    "stream": lambda stream: stream.label,
    "instances": lambda stream: str(len(stream.instances)),
    "stopped after": lambda stream: number(stream.stopped_after, 0),
    "matchness": _of_last("matchness"),
    "kept": _of_last("kept_fraction"),
    "tokens per call": _of_whole("block_efficiency"),
    "MBSU": _of_whole("mbsu"),
    "accepted / drafted": _per_draft_pass(lambda row: row.value("produced") - row.value("blocks")),
    # Accepted nodes without a rejected earlier sibling.
    "of the chain": _per_draft_pass(lambda row: (row.value("accepted_ranks") or [0])[0]),
    "candidates": _of_whole("candidates", 0),
    "speed-up": _speed_up,
    "fused ms/token": _fused,
    "phases ms/token": _phases,
}
