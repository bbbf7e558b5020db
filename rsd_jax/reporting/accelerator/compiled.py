"""The table of programs that were compiled for TPUs which were not attached."""

from collections.abc import Sequence

from rsd_jax.records.rows import Row
from rsd_jax.reporting.table_formats import Table, number

_GIB, _MIB = 2**30, 2**20
_TITLE = "Programs compiled for TPUs that were not attached"
_PHASES = ("draft", "score", "verify", "commit")


def compiled_table(rows: Sequence[Row]) -> Table:
    """A line for each program; of a program that was compiled again, the last.

    The collectives of a block are counted by phase.
    """
    heads = (
        "target",
        "layers",
        "slice",
        "data x model",
        "method",
        "tree",
        "batch",
        "GiB of a chip",
        "draft + score + verify + commit",
        "small",
        "MiB",
        "outer copies",
        "compile s",
        "problems",
    )
    return Table(
        heads, [_line(row) for row in _latest(rows)], frozenset({0, 2, 3, 4, 5, 13}), _TITLE
    )


def problems(rows: Sequence[Row]) -> list[str]:
    """A line for each program that failed to compile or has what must not be."""
    found = []
    for row in _latest(rows):
        why = [row.message] if row.status != "ok" else row.value("problems")
        name = f"{row.pair}, {row.variant} {row.tree}, batch {row.batch_size}, mesh {row.mesh}"
        found += [f"{name}: {each}" for each in why]
    return found


def _latest(rows: Sequence[Row]) -> list[Row]:
    return list({row.config_hash: row for row in rows if row.kind == "compiled"}.values())


def _line(row: Row) -> tuple[str, ...]:
    named = (row.variant, row.tree, str(row.batch_size))
    mesh = "x".join(map(str, (row.mesh or {}).values()))
    target, *draft = row.pair.split()
    target += ", whole draft" * (draft[-1:] == ["replicated"])
    if row.status != "ok":
        return (target, "-", "-", mesh, *named, *["-"] * 6, str(row.message))
    counts = row.value("collectives")
    by_phase = [
        sum(count for name, count in counts.items() if name.startswith(phase)) for phase in _PHASES
    ]
    most = max(row.value("chip_bytes"), row.value("prefill_bytes"))
    return (
        target,
        str(row.value("layers")),
        row.value("topology"),
        mesh,
        *named,
        f"{most / _GIB:.1f} of {row.value('hbm_bytes') / _GIB:.0f}",
        " + ".join(map(str, by_phase)),
        str(row.value("small")),
        number(sum(row.value("collective_bytes").values()) / _MIB, 2),
        str(row.value("outer_copies")),
        number(row.value("compile_seconds"), 0),
        "; ".join(row.value("problems")) or "none",
    )
