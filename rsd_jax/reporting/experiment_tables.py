"""Tables of an experiment, panel by panel: best structures, orderings, every cell."""

from collections.abc import Sequence

from rsd_jax.reporting.experiments import Experiment
from rsd_jax.reporting.figures.base import in_order, style_of
from rsd_jax.reporting.panels import Cell, Panel
from rsd_jax.reporting.selection import (
    VERDICTS,
    Comparison,
    abscissa,
    abscissas,
    best_structures,
    orderings,
)
from rsd_jax.reporting.table_formats import Table, number, with_interval

_METRICS = ("block_efficiency", "mbsu", "token_rate_ratio", "accuracy_ratio")


def best_table(panel: Panel, experiment: Experiment, best_by: str) -> Table:
    """Methods at every draft length (budget) with their best structure, below "ar".

    Ratios are to autoregressive decoding, whose own line gives absolute numbers.

    Args:
      panel, experiment, best_by: as for `best_structures`.
    """
    choices = best_structures(panel, experiment, best_by)
    rows = [_reference(panel.ar)] if panel.ar else []
    for at in abscissas([panel], experiment):
        for method in in_order(m for m, x in choices if x == at):
            choice = choices[method, at]
            row = [str(at), style_of(method).label, choice.best.tree, str(len(choice.tried))]
            rows.append([*row, *(_shown(choice.best, metric) for metric in _METRICS)])
    heads = (
        experiment.label,
        "method",
        "best tree",
        "tried",
        "block efficiency",
        "MBSU",
        "token rate / AR",
        "accuracy / AR",
    )
    return Table(heads, rows, frozenset({1, 2}), f"{panel.label}: best structures")


def orderings_table(panel: Panel, experiment: Experiment, best_by: str) -> Table:
    """The published ordering in block efficiency, a column per link, reported as it falls.

    Args:
      panel, experiment, best_by: as for `orderings`.
    """
    found = orderings(panel, experiment, best_by)
    rows = []
    for at in dict.fromkeys(link.at for link in found):
        row = [str(at)]
        for link in found:
            if link.at == at:
                left, right = (number(value, 2) for value in link.values)
                row.append(f"{left} vs {right}: {link.verdict}")
        rows.append(row)
    heads = (experiment.label, *dict.fromkeys(map(_link, found)))
    columns = frozenset(range(1, len(heads)))
    return Table(heads, rows, columns, f"{panel.label}: orderings in block efficiency")


def verdicts_table(panels: Sequence[Panel], experiment: Experiment, best_by: str) -> Table:
    """How often each link of the ordering holds, over all panels and abscissas.

    Args:
      panels, experiment, best_by: as for `orderings`.
    """
    found = [link for panel in panels for link in orderings(panel, experiment, best_by)]
    verdicts = [verdict for verdict in VERDICTS if any(link.verdict == verdict for link in found)]
    rows = [
        [name, *(str(sum(_link(k) == name and k.verdict == v for k in found)) for v in verdicts)]
        for name in dict.fromkeys(map(_link, found))
    ]
    title = f"Orderings in block efficiency: cases over all panels and every {experiment.label}"
    return Table(("ordering", *verdicts), rows, frozenset({0}), title)


def all_cells_table(panel: Panel, experiment: Experiment, best_by: str) -> Table:
    """Every structure that was measured; an asterisk marks those that are shown as best.

    Args:
      panel, experiment, best_by: as for `best_structures`.
    """
    best = {id(choice.best) for choice in best_structures(panel, experiment, best_by).values()}
    order = in_order(cell.method for cell in panel.cells)
    cells = sorted(
        panel.cells,
        key=lambda cell: (abscissa(cell, experiment), order.index(cell.method), _size(cell)),
    )
    rows = [_cell(panel.ar, "")] if panel.ar else []
    rows += [_cell(cell, "*" if id(cell) in best else "") for cell in cells]
    heads = (
        "method",
        "tree",
        "best",
        "L",
        "budget",
        "seeds",
        "block efficiency",
        "MBSU",
        "tokens/s",
        "/ AR",
        "accuracy",
        "/ AR",
        "compile s",
    )
    return Table(heads, rows, frozenset({0, 1, 2}), f"{panel.label}: all structures")


def unfinished_table(panels: Sequence[Panel]) -> Table:
    """Cells and seeds without a finished row, and why."""
    rows = [
        [
            row.experiment or "-",
            panel.label,
            style_of(row.method).label,
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


def _link(link: Comparison) -> str:
    return f"{style_of(link.above).label} ≥ {style_of(link.below).label}"


def _shown(cell: Cell, metric: str) -> str:
    return with_interval(cell.value(metric), cell.interval(metric), 2)


def _reference(ar: Cell) -> list[str]:
    rate, score = ar.value("token_rate"), ar.value("accuracy")
    speed = "-" if rate is None else f"{_rate(ar)} tokens/s"
    name = ar.rows[0].accuracy_metric or ""
    accuracy = "-" if score is None else f"{_shown(ar, 'accuracy')} {name}"
    counts = [_shown(ar, metric) for metric in ("block_efficiency", "mbsu")]
    counts = [text.removesuffix(" [1.00, 1.00]") for text in counts]
    return ["-", style_of("ar").label, "-", "-", *counts, speed, accuracy]


def _rate(cell: Cell) -> str:
    return with_interval(cell.value("token_rate"), cell.interval("token_rate"), 1)


def _cell(cell: Cell, mark: str) -> list[str]:
    first = cell.rows[0]
    return [
        style_of(cell.method).label,
        cell.tree,
        mark,
        str(first.draft_length),
        number(first.target_budget, 0),
        ",".join(map(str, cell.seeds)),
        _shown(cell, "block_efficiency"),
        _shown(cell, "mbsu"),
        number(cell.value("token_rate"), 1),
        _shown(cell, "token_rate_ratio"),
        number(cell.value("accuracy"), 2),
        _shown(cell, "accuracy_ratio"),
        number(cell.value("compile_time"), 1),
    ]


def _size(cell: Cell) -> tuple[int, str]:
    return cell.rows[0].target_budget or 0, cell.tree
