"""The report's sections on experiments: the published figure, all structures, and the tables."""

from collections.abc import Sequence

from rsd_jax.records.rows import Row
from rsd_jax.reporting import facts
from rsd_jax.reporting.experiment import tables
from rsd_jax.reporting.experiment.definitions import EXPERIMENTS, Experiment
from rsd_jax.reporting.experiment.grid import grid_figure
from rsd_jax.reporting.experiment.selection import abscissas, check_best_by, in_words
from rsd_jax.reporting.experiment.structures import structures_figure
from rsd_jax.reporting.figures import style_of
from rsd_jax.reporting.metrics import STRUCTURES, shown_in
from rsd_jax.reporting.page import Output, Section
from rsd_jax.reporting.panels import Panel, panels_of

_ORDERING = (
    "RSD-S ≥ RSD-C ≥ SpecTr ≥ SD in block efficiency is the published ordering; it is reported as "
    "it falls, between the structures shown. Outside the intervals means that both 95 % intervals "
    "do not touch; the methods share their prompts, so a paired test would ask less."
)


def sections(rows: Sequence[Row], output: Output) -> list[Section]:
    """A section for each of `EXPERIMENTS` that has finished rows.

    Raises:
      ConfigError: a panel has rows of several runs, or `best_by` is unknown.
    """
    check_best_by(output.best_by)
    panels = [panel for panel in panels_of(rows) if panel.structures]
    grouped = [
        ([panel for panel in panels if panel.experiment == name], experiment)
        for name, experiment in EXPERIMENTS.items()
    ]
    return [_section(own, experiment, output) for own, experiment in grouped if own]


def _section(panels: Sequence[Panel], experiment: Experiment, output: Output) -> Section:
    by = output.best_by
    chosen = in_words(experiment, by)
    shown = f"All columns show {chosen}. {facts.caption(panels, bands=True)}"
    figures = {"grid": ("Metrics", grid_figure(panels, experiment, by, shown))}
    filled = f"Filled and named: {chosen}. Hollow: the others. "
    filled += facts.caption(panels, bands=False)
    for metric, label in shown_in(STRUCTURES).items():
        if any(one.value(metric) is not None for panel in panels for one in panel.structures):
            figure = structures_figure(panels, experiment, by, metric, filled)
            figures[f"structures_{metric}"] = (f"All structures: {label}", figure)
    drawn = [
        output.draw(figure, f"{experiment.name}_{name}", heading)
        for name, (heading, figure) in figures.items()
    ]
    shown_tables = [tables.verdicts_table(panels, experiment, by)]
    for panel in panels:
        shown_tables.append(tables.best_table(panel, experiment, by))
        shown_tables.append(tables.orderings_table(panel, experiment, by))
    return Section(
        experiment.title,
        text=f"{shown} {_ORDERING}",
        notices=[
            text
            for panel in panels
            for text in facts.notices(panel, missing_methods(panel, experiment))
        ],
        pictures=[picture for picture, _ in drawn],
        tables=shown_tables,
        details=[tables.all_structures_table(panel, experiment, by) for panel in panels],
        files=[path for _, paths in drawn for path in paths],
    )


def missing_methods(panel: Panel, experiment: Experiment) -> list[str]:
    """In words: methods without a finished row at a length or budget that another method has."""
    have = {(one.variant, getattr(one.rows[0], experiment.field)) for one in panel.structures}
    missing = [
        f"{style_of(variant).label} at {at}"
        for variant in dict.fromkeys(one.variant for one in panel.structures)
        for at in abscissas([panel], experiment)
        if (variant, at) not in have
    ]
    return [f"no finished row of {', '.join(missing)} ({experiment.label})"] if missing else []
