"""Conditions of measurements in words: captions, facts of a run, notices."""

from collections import Counter
from collections.abc import Iterable, Sequence

from rsd_jax.records.hardware import Hardware
from rsd_jax.records.rows import Row
from rsd_jax.reporting.figures import style_of
from rsd_jax.reporting.panels import Panel, latest_rows
from rsd_jax.reporting.table_formats import Table, number


def caption(panels: Sequence[Panel], *, bands: bool) -> str:
    """The caption of a figure: intervals, seeds, settings that all rows share.

    Args:
      panels: panels of the figure.
      bands: whether the figure shows intervals.
    """
    rows = [row for panel in panels for row in panel.rows]
    parts = []
    over = sorted({over for row in rows if (over := row.value("intervals_over"))})
    if bands and over:
        rates = "; of rates over batches" if over == ["batches"] else ""
        parts.append(f"Bands: 95 % bootstrap intervals over prompts{rates}.")
    seeds = sorted({row.seed for row in rows})
    if len(seeds) > 1:
        ends = ", of the intervals' ends too" if bands and over else ""
        parts.append(f"Mean of seeds {', '.join(map(str, seeds))}{ends}.")
    settings = [
        shared("T = {}", (f"{row.temperature:g}" for row in rows)),
        shared("{}", (", ".join(row.filters_in_words()) for row in rows), silent=""),
        shared("batch {}", (str(row.batch_size) for row in rows)),
        shared("{}", (str(row.dtype) for row in rows)),
        shared("{} prompts", (str(row.value("num_prompts")) for row in rows)),
        shared("{}", (hardware_in_words(row.hardware) for row in rows)),
    ]
    return " ".join([*parts, ", ".join(filter(None, settings)) + "."])


def run_facts(rows: Sequence[Row], files: Sequence[str]) -> Table:
    """Rows read, machines, versions, configurations.

    Args:
      rows: all rows that were read.
      files: names of the files that the rows are from.
    """
    latest = latest_rows(rows)
    counts = Counter(row.status for row in latest)
    superseded = len(rows) - len(latest)
    compiling = [seconds for row in latest if (seconds := row.value("compile_time")) is not None]
    versions = Counter(
        ", ".join(f"{name} {version}" for name, version in sorted(row.versions.items()))
        for row in latest
    )
    facts = [
        ("files", ", ".join(files)),
        ("rows read", str(len(rows))),
        (
            "finished, failed, skipped",
            ", ".join(str(counts[status]) for status in ("ok", "failed", "skipped")),
        ),
        ("repeated rows of a cell, left out", str(superseded)),
        ("written by", _counted(row.source for row in latest)),
        ("hardware", _counted(hardware_in_words(row.hardware) for row in latest)),
        ("versions", _counted(versions.elements())),
        ("config_hash", _counted(row.config_hash or "none" for row in latest)),
        (
            "compile time",
            f"{sum(compiling):.1f} s in all, {max(compiling, default=0):.1f} s at most; in no rate",
        ),
    ]
    return Table(("fact", "value"), facts, frozenset({0, 1}), "The run")


def panel_facts(panels: Sequence[Panel]) -> Table:
    """Prompts and settings, a line per panel with a finished row."""
    lines = []
    for panel in panels:
        rows = panel.rows
        if not rows:
            continue
        drafting = [row for row in rows if row.method != "ar"] or rows
        ratio = next((r for row in drafting if (r := row.value("bytes_ratio"))), None)
        compiling = [seconds for row in rows if (seconds := row.value("compile_time")) is not None]
        lines.append(
            [
                panel.experiment or "-",
                panel.label,
                _several(number(row.value("num_prompts"), 0) for row in rows),
                _several(str(row.num_skipped) for row in rows),
                _several((row.prompts_sha256 or "-")[:8] for row in rows),
                _several(row.template or "-" for row in rows),
                _several(_warp(row) for row in drafting),
                _several(number(row.max_new_tokens, 0) for row in rows),
                _several(number(row.batch_size, 0) for row in rows),
                _several(row.dtype or "-" for row in rows),
                _several(str(row.seed) for row in rows),
                _several(
                    {True: "in", False: "out", None: "-"}[row.value("prefill_timed")]
                    for row in rows
                ),
                f"{ratio.r:.4f} / {ratio.r_bytes:.4f}" if ratio else "-",
                _several(_scorer(row) or "-" for row in rows),
                _several(row.config_hash or "-" for row in rows),
                f"{sum(compiling):.1f}",
            ]
        )
    heads = (
        "experiment",
        "panel",
        "prompts",
        "skipped",
        "prompts' hash",
        "template",
        "warp",
        "new tokens",
        "batch",
        "dtype",
        "seeds",
        "prefill",
        "r / r by bytes",
        "scorer",
        "config_hash",
        "compile s",
    )
    return Table(heads, lines, frozenset({0, 1, 4, 5, 6, 9, 11, 13, 14}), "Prompts and settings")


def notices(panel: Panel, missing: Sequence[str] = ()) -> list[str]:
    """Warnings about a panel whose numbers are less comparable than they look.

    Args:
      panel: any panel.
      missing: texts on what else is missing from the panel.
    """
    rows, found = panel.rows, []
    for what, values in (
        (
            "machines, so token rates differ for that reason too",
            {hardware_in_words(row.hardware) for row in rows},
        ),
        ("versions of libraries", {str(sorted(row.versions.items())) for row in rows}),
        ("scorers of accuracy", {row.value("accuracy_signature") for row in rows}),
    ):
        if len(values) > 1:
            found.append(f"its rows are of {len(values)} {what}")
    if panel.ar is None:
        found.append("autoregressive decoding was not measured")
    if len({structure.seeds for structure in panel.structures}) > 1:
        found.append("not every structure was measured with the same seeds")
    found += missing
    if panel.unfinished:
        found.append(f"cells that did not finish, see below: {len(panel.unfinished)}")
    return [f"{panel.label}: {text}." for text in found]


def unfinished_table(panels: Sequence[Panel]) -> Table:
    """Cells and seeds without a finished row, with reasons."""
    rows = [
        [
            row.experiment or "-",
            panel.label,
            style_of(row.variant).label,
            row.tree,
            str(row.seed),
            row.status,
            row.message or "-",
        ]
        for panel in panels
        for row in panel.unfinished
    ]
    heads = ("experiment", "panel", "method", "tree", "seed", "status", "message")
    return Table(heads, rows, frozenset({0, 1, 2, 3, 5, 6}), "Cells that did not finish")


def hardware_in_words(hardware: Hardware) -> str:
    """E.g. "2 cores of AMD EPYC" or "4 x TPU v4"."""
    if hardware.backend == "cpu":
        return f"{hardware.cores} core{'s' * (hardware.cores > 1)} of {hardware.cpu}"
    return f"{hardware.num_devices} x {hardware.device}"


def _scorer(row: Row) -> str | None:
    return row.value("accuracy_signature") or row.value("accuracy_metric")


def _warp(row: Row) -> str:
    parts = [f"T {row.temperature:g}", *row.filters_in_words()]
    parts += [f"draft T {row.draft_temperature:g}"] if row.draft_temperature is not None else []
    parts += [f"draft top-k {row.draft_top_k}"] if row.draft_top_k is not None else []
    return ", ".join(parts)


def shared(text: str, values: Iterable[str], silent: str = "None") -> str:
    """The text with the value that all share; "" if values differ or the value is `silent`."""
    found = set(values)
    value = found.pop() if len(found) == 1 else silent
    return "" if value in (silent, "None") else text.format(value)


def _several(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values))


def _counted(values: Iterable[str]) -> str:
    """E.g. "a" or "a (3 rows), b (1 row)"."""
    counts = Counter(values)
    if len(counts) == 1:
        return next(iter(counts))
    return "; ".join(f"{value} ({count} rows)" for value, count in counts.items())
