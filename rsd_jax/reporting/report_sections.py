"""What the report has on each kind of rows: pictures, tables, and what to beware of."""

import dataclasses
import pathlib
from collections.abc import Sequence

from rsd_jax.reporting import experiment_tables, facts
from rsd_jax.reporting.experiments import Experiment
from rsd_jax.reporting.figures import base
from rsd_jax.reporting.figures.grid import grid_figure
from rsd_jax.reporting.figures.skipping import skipping_figure
from rsd_jax.reporting.figures.stream import stream_figure
from rsd_jax.reporting.figures.structures import structures_figure
from rsd_jax.reporting.panels import Panel
from rsd_jax.reporting.plots import plot_comparison
from rsd_jax.reporting.report_page import Picture, Section
from rsd_jax.reporting.selection import BEST_BY
from rsd_jax.reporting.skip_costs import SkipCosts, skip_cost_table
from rsd_jax.reporting.streams import Stream, latency_table, search_table, summary_table
from rsd_jax.reporting.tables import comparison_cells

_STRUCTURES = ("block_efficiency", "token_rate_ratio")
_ORDERING = (
    "RSD-S ≥ RSD-C ≥ SpecTr ≥ SD in block efficiency is the published ordering; it is reported as "
    "it falls, between the structures shown. Outside the intervals means that both 95 % intervals "
    "do not touch; the methods share their prompts, so a paired test would ask less."
)


@dataclasses.dataclass(frozen=True)
class Output:
    """Where and how files are written.

    Attributes:
      folder: of all files; made if needed.
      formats: of figures, of `base.FORMATS`.
      best_by: metric that the best structure is picked by, of `BEST_BY`.
      title: of the page.
    """

    folder: pathlib.Path
    formats: tuple[str, ...] = ("png", "pdf")
    best_by: str = BEST_BY[0]
    title: str = "rsd_jax: results"


def experiment_section(
    panels: Sequence[Panel], experiment: Experiment, output: Output
) -> tuple[Section, list[pathlib.Path]]:
    """The published figure of an experiment, all structures, and the tables."""
    by = output.best_by
    chosen = facts.selection(experiment, by)
    shown = f"All columns show {chosen}. {facts.caption(panels, bands=True)}"
    figures = {"grid": ("Metrics", grid_figure(panels, experiment, by, shown))}
    filled = f"Filled and named: {chosen}. Hollow: the others. "
    filled += facts.caption(panels, bands=False)
    for metric in _STRUCTURES:
        if any(cell.value(metric) is not None for panel in panels for cell in panel.cells):
            figure = structures_figure(panels, experiment, by, metric, filled)
            figures[f"structures_{metric}"] = (f"All structures: {base.METRICS[metric]}", figure)
    paths, pictures = [], []
    for name, (heading, figure) in figures.items():
        stem = output.folder / f"{experiment.name}_{name}"
        paths += base.save(figure, stem, output.formats)
        pictures.append(Picture(base.svg_bytes(figure), "svg+xml", heading))
    tables = [experiment_tables.verdicts_table(panels, experiment, by)]
    for panel in panels:
        tables.append(experiment_tables.best_table(panel, experiment, by))
        tables.append(experiment_tables.orderings_table(panel, experiment, by))
    section = Section(
        experiment.title,
        text=f"{shown} {_ORDERING}",
        notices=[text for panel in panels for text in facts.notices(panel, experiment)],
        pictures=pictures,
        tables=tables,
        details=[experiment_tables.all_cells_table(panel, experiment, by) for panel in panels],
    )
    return section, paths


def comparison_section(
    panels: Sequence[Panel], output: Output
) -> tuple[Section, list[pathlib.Path]]:
    """What is of no known experiment: bars and a table, panel by panel."""
    paths: list[pathlib.Path] = []
    pictures, tables = [], []
    for number, panel in enumerate(panels, start=1):
        tables.append(dataclasses.replace(comparison_cells(panel.rows), title=panel.label))
        if all(row.block_efficiency is None for row in panel.rows):
            continue
        stem = output.folder / f"comparison_{number}"
        paths += [plot_comparison(panel.rows, f"{stem}.{kind}") for kind in output.formats]
        drawn = plot_comparison(panel.rows, f"{stem}.svg")
        pictures.append(Picture(drawn.read_bytes(), "svg+xml", panel.label))
        if "svg" not in output.formats:
            drawn.unlink()
    section = Section(
        "Comparison of methods",
        text="Rows of no known experiment: one bar per row, nothing is picked.",
        notices=[text for panel in panels for text in facts.notices(panel, None)],
        pictures=pictures,
        tables=tables,
    )
    return section, paths


def stream_section(streams: Sequence[Stream], output: Output) -> tuple[Section, list[pathlib.Path]]:
    paths: list[pathlib.Path] = []
    pictures = []
    tables = [summary_table(streams)]
    for number, stream in enumerate(streams, start=1):
        figure = stream_figure(stream, facts.stream_caption(stream))
        paths += base.save(figure, output.folder / f"stream_{number}", output.formats)
        pictures.append(Picture(base.svg_bytes(figure), "svg+xml", stream.label))
        if stream.whole is not None and stream.whole.phase_times:
            title = f"{stream.label}: latency per token"
            tables.append(dataclasses.replace(latency_table(stream.whole), title=title))
    searches = search_table(streams)
    if searches.rows:
        tables.append(dataclasses.replace(searches, title="What the search takes, per token"))
    section = Section(
        "Streams of instances",
        text="Instance speed-up: of one instance over autoregressive decoding of the same, prefill "
        "and search included. Overall: mean rate so far over mean rate of autoregressive decoding.",
        pictures=pictures,
        tables=tables,
    )
    return section, paths


def skipping_section(
    costs: Sequence[SkipCosts], output: Output
) -> tuple[Section, list[pathlib.Path]]:
    figure = skipping_figure(costs, facts.skipping_caption(costs))
    paths = base.save(figure, output.folder / "skipping", output.formats)
    section = Section(
        "What a skipped sub-layer costs",
        text="Bytes: of weights, output head and live cache, over those of the whole pass. A pass "
        "whose time follows them reads nothing of what it skips.",
        pictures=[Picture(base.svg_bytes(figure), "svg+xml", "time against bytes")],
        tables=[skip_cost_table(one) for one in costs],
    )
    return section, paths
