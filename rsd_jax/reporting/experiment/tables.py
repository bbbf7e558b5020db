"""Tables of an experiment, panel by panel: best structures, orderings, every structure."""

from collections.abc import Sequence

from rsd_jax.reporting.experiment.definitions import Experiment
from rsd_jax.reporting.experiment.selection import (
    VERDICTS,
    OrderingLink,
    abscissa,
    abscissas,
    best_structures,
    orderings,
)
from rsd_jax.reporting.figures import in_order, style_of
from rsd_jax.reporting.metrics import ALL, BEST, METRICS, shown_in
from rsd_jax.reporting.panels import Panel, Structure
from rsd_jax.reporting.table_formats import Table, number, with_interval


def best_table(panel: Panel, experiment: Experiment, best_by: str) -> Table:
    """Methods at every draft length (budget) with their best structure, below "ar".

    Ratios are to autoregressive decoding; the line of "ar" gives absolute numbers.

    Args:
      panel, experiment, best_by: as for `best_structures`.
    """
    choices = best_structures(panel, experiment, best_by)
    rows = [_reference(panel.ar)] if panel.ar else []
    for at in abscissas([panel], experiment):
        for variant in in_order(v for v, x in choices if x == at):
            choice = choices[variant, at]
            row = [str(at), style_of(variant).label, choice.best.tree, str(len(choice.tried))]
            rows.append([*row, *(_shown(choice.best, metric) for metric in shown_in(BEST))])
    heads = (experiment.label, "method", "best tree", "tried", *shown_in(BEST).values())
    return Table(heads, rows, frozenset({1, 2}), f"{panel.label}: best structures")


def orderings_table(panel: Panel, experiment: Experiment, best_by: str) -> Table:
    """Whether each link of the published ordering holds in block efficiency, a column per link.

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


def all_structures_table(panel: Panel, experiment: Experiment, best_by: str) -> Table:
    """Every structure that was measured; an asterisk marks the best structures.

    Args:
      panel, experiment, best_by: as for `best_structures`.
    """
    best = {id(choice.best) for choice in best_structures(panel, experiment, best_by).values()}
    order = in_order(structure.variant for structure in panel.structures)
    listed = sorted(
        panel.structures,
        key=lambda one: (abscissa(one, experiment), order.index(one.variant), _size(one)),
    )
    rows = [_line(panel.ar, "")] if panel.ar else []
    rows += [_line(one, "*" if id(one) in best else "") for one in listed]
    heads = ("method", "tree", "best", "L", "budget", "seeds", *shown_in(ALL).values())
    return Table(heads, rows, frozenset({0, 1, 2}), f"{panel.label}: all structures")


def _link(link: OrderingLink) -> str:
    return f"{style_of(link.above).label} ≥ {style_of(link.below).label}"


def _shown(structure: Structure, name: str) -> str:
    metric = METRICS[name]
    ends = structure.interval(name) if metric.interval else None
    return with_interval(structure.value(name), ends, metric.digits)


def _reference(ar: Structure) -> list[str]:
    return ["-", style_of("ar").label, "-", "-", *(_absolute(ar, name) for name in shown_in(BEST))]


def _absolute(ar: Structure, name: str) -> str:
    """For a column of ratios, the value of "ar" in absolute numbers; else the value itself."""
    absolute = METRICS[name].absolute
    if absolute is None:
        return _shown(ar, name).removesuffix(" [1.00, 1.00]")
    value, metric = ar.value(absolute), METRICS[absolute]
    if value is None:
        return "-"
    unit = metric.unit or ar.rows[0].value("accuracy_metric")
    return f"{with_interval(value, ar.interval(absolute), metric.digits)} {unit}"


def _line(structure: Structure, mark: str) -> list[str]:
    first = structure.rows[0]
    return [
        style_of(structure.variant).label,
        structure.tree,
        mark,
        str(first.draft_length),
        number(first.target_budget, 0),
        ",".join(map(str, structure.seeds)),
        *(_shown(structure, name) for name in shown_in(ALL)),
    ]


def _size(structure: Structure) -> tuple[int, str]:
    return structure.rows[0].target_budget or 0, structure.tree
