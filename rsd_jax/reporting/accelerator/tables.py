"""Tables of the rows that `launch/accelerator.sh` writes, a table per kind of rows."""

from collections import defaultdict
from collections.abc import Sequence

from rsd_jax.records.device_parts import SOURCE
from rsd_jax.records.rows import Row
from rsd_jax.reporting.accelerator.compiled import compiled_table
from rsd_jax.reporting.table_formats import Table, number

FREE = 1.1
"""A pass over several nodes is called free up to this multiple of a pass over one node."""

_MEGA, _GIGA, _TERA, _GIB = 1e6, 1e9, 1e12, 2**30
_OPERATIONS = 6  # of each method


def latest(rows: Sequence[Row]) -> list[Row]:
    """The rows of the measurement, of every cell the last."""
    found: dict[str | None, Row] = {}
    for row in rows:
        if row.source == SOURCE:
            found.pop(row.config_hash, None)
            found[row.config_hash] = row
    return list(found.values())


def summary(rows: Sequence[Row]) -> str:
    """All tables as aligned text, with what did not fit or failed at the end."""
    parts = [f"{table.title}\n{table.aligned()}\n" for table in accelerator_tables(rows)]
    return "\n".join(parts) or "nothing was measured yet\n"


def accelerator_tables(rows: Sequence[Row]) -> list[Table]:
    """The tables, without those that would be empty."""
    kinds: dict[str, list[Row]] = defaultdict(list)
    unfinished = []
    for row in latest(rows):
        if row.status == "ok":
            kinds[row.kind].append(row)
        else:
            unfinished.append(row)
    tables = [
        _checks(kinds["check"]),
        _rates(kinds["device"]),
        _blocks(kinds["block"]),
        _peers(kinds["peer"], kinds["block"]),
        _passes(kinds["pass"]),
        _skipping(kinds["skipping"]),
        _choices(kinds["choice"]),
        _profiles(kinds["profile"]),
        _training(kinds["training"]),
        compiled_table(kinds["compiled"]),
        _unfinished(unfinished),
    ]
    return [table for table in tables if table.rows]


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1e3 * seconds:.3f}"


def _checks(rows: Sequence[Row]) -> Table:
    heads = ("what", "method", "dtype", "compared", "different", "differences", "agrees")
    lines = [
        (
            row.task,
            row.method,
            str(row.dtype),
            str(row.value("compared")),
            str(row.value("different")),
            " ".join(f"{each:.1e}" for each in row.value("differences")) or "-",
            _judgement(row),
        )
        for row in rows
    ]
    title = "Check against the record of a CPU (bfloat16: against ar on this device)"
    return Table(heads, lines, frozenset({0, 1, 2}), title)


def _judgement(row: Row) -> str:
    if row.value("tolerance") is None:
        return "not judged"
    return "yes" if row.value("agrees") else "NO"


def _rates(rows: Sequence[Row]) -> Table:
    lines = [
        (
            row.hardware.device,
            f"{row.value('copy_bandwidth') / _GIGA:.0f}",
            f"{row.value('matmul_rate') / _TERA:.1f}",
        )
        for row in rows
    ]
    heads = ("device", "copy GB/s", "bfloat16 matmul TFLOP/s")
    return Table(heads, lines, frozenset({0}), "Rates of the device")


def _blocks(rows: Sequence[Row]) -> Table:
    phases = ("draft", "score", "verify", "commit", "forwards")
    heads = (
        "method",
        "tree",
        "batch",
        "context",
        "block ms",
        *phases,
        "of copy",
        "realised",
        "by bytes",
        "compile s",
        "GiB",
    )
    lines = []
    for row in rows:
        peak = row.value("peak_bytes")
        lines.append(
            (
                row.variant,
                row.tree,
                str(row.batch_size),
                str(row.context_length),
                _ms(row.value("t_block")),
                *(_ms(row.value("phase_times").get(name)) for name in phases),
                f"{row.value('bandwidth_fraction'):.0%}",
                number(row.value("realised_fraction"), 3),
                number(row.value("realised_fraction_bytes"), 3),
                number(row.value("compile_seconds"), 1),
                "-" if peak is None else f"{peak / _GIB:.1f}",
            )
        )
    return Table(heads, lines, title="Blocks (random weights: time, not tokens)")


def _peers(rows: Sequence[Row], blocks: Sequence[Row]) -> Table:
    """Other engines beside our methods of the same draft length, batch and context."""
    lines = []
    for row in rows:
        ours = [
            each
            for each in blocks
            if each.variant in ("ar", "sd")
            and (each.draft_length, each.batch_size, each.context_length)
            == (row.draft_length, row.batch_size, row.context_length)
        ]
        t_ours = ours[-1].value("t_block") if ours else None
        ratio = None if t_ours is None else row.value("t_block") / t_ours
        lines.append(
            (row.method, row.tree, _ms(row.value("t_block")), _ms(t_ours), number(ratio, 2))
        )
    heads = ("peer", "draft length", "block ms", "our block ms", "times ours")
    return Table(heads, lines, title="Peers: time per target call, batch 1")


def _passes(rows: Sequence[Row]) -> Table:
    lines = [
        (
            str(row.value("nodes")),
            str(row.batch_size),
            str(row.context_length),
            _ms(row.value("t_pass")),
            number(row.value("t_pass_ratio"), 3),
        )
        for row in rows
    ]
    title = "Passes of the target over several nodes"
    if (free := knee(rows)) is not None:
        title += f"; free (at most {FREE:g} times one node) up to {free} nodes"
    return Table(("nodes", "batch", "context", "ms", "over one node"), lines, frozenset(), title)


def knee(rows: Sequence[Row]) -> int | None:
    """The most nodes up to which verification is free, at the first batch and context measured."""
    places = [(row.batch_size, row.context_length) for row in rows]
    curve = [row for row, place in zip(rows, places, strict=True) if place == places[0]]
    free = None
    for row in sorted(curve, key=lambda row: row.value("nodes")):
        if row.value("t_pass_ratio") > FREE:
            break
        free = row.value("nodes")
    return free


def _skipping(rows: Sequence[Row]) -> Table:
    lines = [
        (
            number(row.value("kept_fraction"), 3),
            _ms(row.value("t_draft")),
            number(row.value("t_draft_ratio"), 3),
        )
        for row in rows
    ]
    heads = ("bytes kept", "ms", "time kept")
    return Table(heads, lines, frozenset(), "Passes with sub-layers skipped")


def _choices(rows: Sequence[Row]) -> Table:
    lines = [
        (
            str(row.value("choice")),
            row.variant,
            row.tree,
            str(row.context_length),
            str(row.value("default")),
            _ms(row.value("t_default")),
            str(row.value("option")),
            _ms(row.value("t_option")),
            number(row.value("t_option") / row.value("t_default"), 3),
        )
        for row in rows
    ]
    heads = (
        "choice",
        "method",
        "tree",
        "context",
        "default",
        "ms",
        "option",
        "ms",
        "option over default",
    )
    title = "Choices by the kind of device, blocks of both ways"
    return Table(heads, lines, frozenset({0, 1, 2, 4, 6}), title)


def _profiles(rows: Sequence[Row]) -> Table:
    lines = []
    for row in rows:
        total = row.value("t_operations")
        for name, seconds in list(row.value("operations").items())[:_OPERATIONS]:
            lines.append((row.variant, row.tree, name, _ms(seconds), f"{seconds / total:.0%}"))
    heads = ("method", "tree", "operation", "ms per block", "share")
    return Table(heads, lines, frozenset({0, 1, 2}), "Operations that take the most time")


def _training(rows: Sequence[Row]) -> Table:
    lines = []
    for row in rows:
        held_out = row.value("held_out")
        lines.append(
            (
                row.pair,
                str(row.value("steps")),
                f"{row.value('trained_tokens') / _MEGA:.2f}",
                number(row.value("training_rate"), 0),
                number(row.value("training_loss"), 3),
                number(held_out.get("forward_kl"), 3),
                number(held_out.get("acceptance_t1"), 3),
                number(held_out.get("greedy_agreement"), 3),
            )
        )
    heads = (
        "draft",
        "steps",
        "million tokens",
        "tokens/s",
        "loss",
        "held-out KL",
        "acceptance, T = 1",
        "same likeliest token",
    )
    return Table(heads, lines, title="Drafts, trained from stored responses")


def _unfinished(rows: Sequence[Row]) -> Table:
    lines = [
        (
            str(row.experiment),
            row.variant,
            row.tree,
            "-" if row.batch_size is None else str(row.batch_size),
            "-" if row.context_length is None else str(row.context_length),
            row.status,
            str(row.message),
        )
        for row in rows
    ]
    heads = ("part", "method", "tree", "batch", "context", "status", "why")
    return Table(heads, lines, frozenset({0, 1, 2, 5, 6}), "Not measured")
