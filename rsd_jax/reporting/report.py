"""From result rows to files: figures, tables, one page. Reads rows only; never imports JAX."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence

from rsd_jax.errors import ConfigError
from rsd_jax.reporting import experiment_tables, facts
from rsd_jax.reporting.experiments import EXPERIMENTS, Experiment
from rsd_jax.reporting.figures import base
from rsd_jax.reporting.figures.grid import grid_figure
from rsd_jax.reporting.figures.structures import structures_figure
from rsd_jax.reporting.panels import Panel, panels_of
from rsd_jax.reporting.plots import plot_comparison
from rsd_jax.reporting.report_page import Picture, Section, page
from rsd_jax.reporting.selection import BEST_BY, check_best_by
from rsd_jax.reporting.table_formats import Table, escape_markdown
from rsd_jax.reporting.tables import comparison_cells
from rsd_jax.rows import Row

_STRUCTURES = ("block_efficiency", "token_rate_ratio")
_LATEX_HEAD = "% \\usepackage{booktabs,longtable}; tables of all structures want a landscape page."
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


def write_report(
    rows: Sequence[Row], output: Output, files: Sequence[str | os.PathLike[str]] = ()
) -> list[pathlib.Path]:
    """Writes figures, tables.md, tables.tex and report.html.

    Rows of a known experiment get its figures and tables; other rows get the bars of
    `plot_comparison` and the table of `comparison_table`, panel by panel.

    Args:
      rows: in the order in which they were written.
      output: where, and how the best structure is picked.
      files: where the rows are from, for the report.

    Returns:
      paths of what was written, report first.

    Raises:
      ConfigError: no row is finished, runs are mixed in a panel, or an unknown metric or format.
    """
    check_best_by(output.best_by)
    base.check_formats(output.formats)
    panels = panels_of(rows)
    if not any(panel.cells for panel in panels):
        raise ConfigError(_why_nothing(rows))
    sections, paths = [], []
    for experiment in EXPERIMENTS.values():
        own = [p for p in panels if p.experiment == experiment.name and p.cells]
        if own:
            section, written = _experiment(own, experiment, output)
            sections.append(section)
            paths += written
    others = [p for p in panels if p.experiment not in EXPERIMENTS and p.cells]
    if others:
        section, written = _comparisons(others, output)
        sections.append(section)
        paths += written
    unfinished = experiment_tables.unfinished_table(panels)
    if unfinished.rows:
        sections.append(Section(unfinished.title, tables=[_untitled(unfinished)], style="failed"))
    run = facts.run_facts(rows, [pathlib.Path(file).name for file in files])
    sections.append(
        Section("The run", tables=[_untitled(run)], details=[facts.panel_facts(panels)],
                style="facts")
    )  # fmt: skip
    texts = {
        "report.html": page(output.title, sections),
        "tables.md": _markdown(output.title, sections),
        "tables.tex": _latex(sections),
    }
    output.folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (output.folder / name).write_text(text, encoding="utf-8")
    return [*(output.folder / name for name in texts), *paths]


def _experiment(
    panels: Sequence[Panel], experiment: Experiment, output: Output
) -> tuple[Section, list[pathlib.Path]]:
    by = output.best_by
    chosen = facts.selection(experiment, by)
    shown = f"All columns show {chosen}. {facts.caption(panels, bands=True)}"
    figures = {"grid": ("Metrics", grid_figure(panels, experiment, by, shown))}
    filled = f"Filled and named: {chosen}. Hollow: the others. "
    filled += facts.caption(panels, bands=False)
    for metric in _STRUCTURES:
        if any(cell.value(metric) is not None for panel in panels for cell in panel.cells):
            figure = structures_figure(panels, experiment, by, metric, filled)
            figures[f"structures_{metric}"] = (
                f"All structures: {base.METRICS[metric]}", figure
            )  # fmt: skip
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


def _comparisons(panels: Sequence[Panel], output: Output) -> tuple[Section, list[pathlib.Path]]:
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


def _why_nothing(rows: Sequence[Row]) -> str:
    if not rows:
        return "the files hold no row; run the measurement first"
    failed = [row for row in rows if row.status != "ok"]
    text = f"none of {len(rows)} rows is a finished one of a drafting method"
    if failed:
        row = failed[0]
        text += f"; the first that {row.status} is {row.method} {row.tree}: {row.message}"
    return (
        f"{text}; run the measurement again, which goes on with what is missing and, with "
        "--retry_failed, tries what failed once more"
    )


def _untitled(table: Table) -> Table:
    return dataclasses.replace(table, title="")


def _markdown(title: str, sections: Sequence[Section]) -> str:
    parts = [f"# {escape_markdown(title)}"]
    for section in sections:
        parts.append(f"## {section.title}")
        parts += [section.text] if section.text else []
        parts += ["\n".join(f"- {escape_markdown(text)}" for text in section.notices)]
        parts += [table.markdown() for table in (*section.tables, *section.details)]
    return "\n\n".join(filter(None, parts)) + "\n"


def _latex(sections: Sequence[Section]) -> str:
    """Tables of numbers; what the run was and what failed is in the other files."""
    parts = [_LATEX_HEAD]
    for section in sections:
        if not section.style:
            parts += [table.latex() for table in section.tables]
            parts += [table.latex(long=True) for table in section.details]
    return "\n\n".join(parts) + "\n"
