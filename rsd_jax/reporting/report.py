"""Writes figures, tables and a page from result rows alone; never imports JAX."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence

from rsd_jax.errors import ConfigError
from rsd_jax.records.rows import Row
from rsd_jax.reporting import facts, figures
from rsd_jax.reporting.accelerator import section as accelerator
from rsd_jax.reporting.acceptance import section as acceptance
from rsd_jax.reporting.comparison import section as comparison
from rsd_jax.reporting.expected import section as expected
from rsd_jax.reporting.experiment import section as experiment
from rsd_jax.reporting.page import Output, Section, page
from rsd_jax.reporting.panels import panels_of
from rsd_jax.reporting.skipping import section as skipping
from rsd_jax.reporting.stream import section as stream
from rsd_jax.reporting.table_formats import Table, escape_markdown

# One function per kind of rows or part; each takes all rows and makes the sections of its kind.
_KINDS = (
    experiment.sections,
    expected.sections,
    comparison.sections,
    acceptance.sections,
    stream.sections,
    skipping.sections,
    accelerator.sections,
)
_LATEX_HEAD = "% \\usepackage{booktabs,longtable}; tables of all structures want a landscape page."


def write_report(
    rows: Sequence[Row], output: Output, files: Sequence[str | os.PathLike[str]] = ()
) -> list[pathlib.Path]:
    """Writes figures, tables.md, tables.tex and report.html.

    Rows of a known experiment get the figures and tables of this experiment. Other rows of
    decoding get the bars of `plot_comparison` and the table of `comparison_table`, panel by panel.
    Rows with expected tokens also get the figures and tables of these. Tables of acceptance by
    position and by category follow.

    Args:
      rows: in the order in which they were written.
      output: where and how files are written.
      files: files that the rows are from, for the report.

    Returns:
      paths of the written files, report first.

    Raises:
      ConfigError: no row is finished, a panel mixes runs, or a metric or format is unknown.
    """
    figures.check_formats(output.formats)
    sections = [section for kind in _KINDS for section in kind(rows, output)]
    if not sections:
        raise ConfigError(_why_nothing(rows))
    panels = panels_of(rows)
    unfinished = facts.unfinished_table(panels)
    if unfinished.rows:
        sections.append(Section(unfinished.title, tables=[_untitled(unfinished)], style="failed"))
    run = facts.run_facts(rows, [pathlib.Path(file).name for file in files])
    sections.append(
        Section(
            "The run", tables=[_untitled(run)], details=[facts.panel_facts(panels)], style="facts"
        )
    )
    texts = {
        "report.html": page(output.title, sections),
        "tables.md": _markdown(output.title, sections),
        "tables.tex": _latex(sections),
    }
    output.folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (output.folder / name).write_text(text, encoding="utf-8")
    drawn = [path for section in sections for path in section.files]
    return [*(output.folder / name for name in texts), *drawn]


def _why_nothing(rows: Sequence[Row]) -> str:
    if not rows:
        return "the files hold no row; run the measurement first"
    failed = [row for row in rows if row.status != "ok"]
    text = f"none of {len(rows)} rows is a finished row of a drafting method"
    if failed:
        row = failed[0]
        text += f"; the first {row.status} row is {row.method} {row.tree}: {row.message}"
    return (
        f"{text}; run the measurement again, which measures missing cells and, with "
        "--retry_failed, failed cells"
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
    """Tables of numbers; facts of the run and failed cells are only in the other files."""
    parts = [_LATEX_HEAD]
    for section in sections:
        if not section.style:
            parts += [table.latex() for table in section.tables]
            parts += [table.latex(long=True) for table in section.details]
    return "\n\n".join(parts) + "\n"
