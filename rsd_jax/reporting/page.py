"""The report as one HTML page without external resources; every text is escaped."""

import base64
import dataclasses
import html
import pathlib
import string
from collections.abc import Sequence
from typing import Any

from rsd_jax.reporting import figures
from rsd_jax.reporting.metrics import BEST_BY, shown_in
from rsd_jax.reporting.table_formats import Table

_PAGE = string.Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #1c1c1c; background: #fff;
       max-width: 1180px; margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.4rem;
     border-bottom: 1px solid #ddd; padding-bottom: .2rem; }
h3 { font-size: 1.05rem; margin: 1.8rem 0 .4rem; }
nav a { margin-right: 1.2rem; }
figure { margin: 1rem 0; } figure img { width: 100%; height: auto; }
.wide { overflow-x: auto; margin: .8rem 0 1.4rem; }
table { border-collapse: collapse; font-size: .84rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .3rem 0; }
th, td { padding: .2rem .65rem; text-align: right; vertical-align: top; white-space: nowrap; }
th { border-bottom: 1.5px solid #555; font-weight: 600; }
td { border-bottom: 1px solid #e8e8e8; }
th.text, td.text { text-align: left; }
.facts td, .failed td { white-space: normal; overflow-wrap: anywhere; }
.facts td:first-child, .failed td:nth-child(-n+6) { white-space: nowrap; overflow-wrap: normal; }
.notice { background: #fff6e0; border-left: 4px solid #e0a100; padding: .5rem .9rem; }
.notice ul { margin: .2rem 0; padding-left: 1.2rem; }
summary { cursor: pointer; font-weight: 600; margin: .8rem 0; }
</style>
</head>
<body>
<h1>$title</h1>
<nav>$links</nav>
$sections
</body>
</html>
""")


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure in the page.

    Attributes:
      content: bytes of the file.
      kind: "svg+xml" or "png".
      heading: heading above the figure.
    """

    content: bytes
    kind: str
    heading: str


@dataclasses.dataclass(frozen=True)
class Section:
    """Part of the report.

    Attributes:
      title: heading.
      text: text below the heading.
      notices: warnings.
      pictures: figures.
      tables: tables that are shown.
      details: tables that open on a click.
      style: CSS class of the section.
      files: files of figures that were written.
    """

    title: str
    text: str = ""
    notices: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()
    details: Sequence[Table] = ()
    style: str = ""
    files: Sequence[pathlib.Path] = ()


@dataclasses.dataclass(frozen=True)
class Output:
    """Where and how files are written.

    Attributes:
      folder: folder of all files; created if needed.
      formats: formats of figures, from `rsd_jax.reporting.figures.FORMATS`.
      best_by: metric that the best structure is picked by, see `rsd_jax.reporting.metrics`.
      title: title of the page.
    """

    folder: pathlib.Path
    formats: tuple[str, ...] = ("png", "pdf")
    best_by: str = next(iter(shown_in(BEST_BY)))
    title: str = "rsd_jax: results"

    def draw(self, figure: Any, name: str, heading: str) -> tuple[Picture, list[pathlib.Path]]:
        """Writes a figure to files; returns the figure for the page, and the files."""
        paths = figures.save(figure, self.folder / name, self.formats)
        return Picture(figures.svg_bytes(figure), "svg+xml", heading), paths


def page(title: str, sections: Sequence[Section]) -> str:
    """The whole page."""
    links = "".join(
        f'<a href="#s{i}">{html.escape(section.title)}</a>' for i, section in enumerate(sections)
    )
    body = "\n".join(_section(section, f"s{i}") for i, section in enumerate(sections))
    return _PAGE.substitute(title=html.escape(title), links=links, sections=body)


def _section(section: Section, anchor: str) -> str:
    parts = [f'<section id="{anchor}" class="{html.escape(section.style)}">']
    parts.append(f"<h2>{html.escape(section.title)}</h2>")
    if section.text:
        parts.append(f"<p>{html.escape(section.text)}</p>")
    if section.notices:
        items = "".join(f"<li>{html.escape(notice)}</li>" for notice in section.notices)
        parts.append(f'<div class="notice"><ul>{items}</ul></div>')
    for picture in section.pictures:
        content = base64.b64encode(picture.content).decode()
        name = html.escape(picture.heading)
        source = f"data:image/{picture.kind};base64,{content}"
        parts.append(f'<h3>{name}</h3><figure><img alt="{name}" src="{source}"></figure>')
    parts += [table.html() for table in section.tables]
    for table in section.details:
        shown = dataclasses.replace(table, title="").html()
        parts.append(f"<details><summary>{html.escape(table.title)}</summary>{shown}</details>")
    return "\n".join([*parts, "</section>"])
