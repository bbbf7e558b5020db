"""The launcher writes figures, tables and the page from rows, without JAX."""

import dataclasses
import html.parser
import re
import subprocess
import sys

import pytest

from rsd_jax import ConfigError
from rsd_jax.records.files import to_json
from rsd_jax.reporting import figures as base
from rsd_jax.reporting.experiment.definitions import EXPERIMENTS
from rsd_jax.reporting.experiment.grid import grid_figure
from rsd_jax.reporting.experiment.section import missing_methods
from rsd_jax.reporting.experiment.selection import orderings
from rsd_jax.reporting.experiment.structures import structures_figure
from rsd_jax.reporting.experiment.tables import best_table
from rsd_jax.reporting.facts import notices
from rsd_jax.reporting.page import Output
from rsd_jax.reporting.panels import panels_of
from rsd_jax.reporting.report import write_report
from rsd_jax.reporting.table_formats import Table, escape_latex
from tests import ROOT, synthetic_rows

_NASTY = "out of <b>memory</b> & 5 % | of $x_1$\nin two lines"
_SOME = (synthetic_rows.PANELS[0], synthetic_rows.PANELS[6])
_FIRST = EXPERIMENTS["experiment1"]


def _write(path, rows):
    path.write_text("".join(to_json(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _launch(*arguments, blocked=("jax", "flax")):
    code = (
        f"import sys, runpy; sys.modules.update(dict.fromkeys({blocked!r})); "
        "sys.path.insert(0, 'launch'); "
        f"sys.argv = ['plot.py', *{[str(a) for a in arguments]!r}]; "
        "runpy.run_path('launch/plot.py', run_name='__main__')"
    )
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Both experiments, one cell failed: (folder, output of the launcher)."""
    folder = tmp_path_factory.mktemp("report")
    first = synthetic_rows.experiment1(_SOME, lengths=(2, 3))
    first[5] = synthetic_rows.failed(first[5], _NASTY)
    one = _write(folder / "one.jsonl", first)
    two = _write(folder / "two.jsonl", synthetic_rows.experiment2(_SOME[:1], seeds=(0, 1)))
    run = _launch(one, two, f"--out_dir={folder / 'out'}", "--title=Made <up>")
    assert run.returncode == 0, run.stderr
    return folder / "out", run.stdout


def test_the_launcher_writes_everything_without_jax(written):
    folder, said = written
    figures = [
        f"{experiment}_{name}.{kind}"
        for experiment in EXPERIMENTS
        for name in ("grid", "structures_block_efficiency", "structures_token_rate_ratio")
        for kind in ("png", "pdf")
    ]
    names = {path.name for path in folder.iterdir()}
    assert names == {"report.html", "tables.md", "tables.tex", *figures}
    assert all(name in said for name in names)
    assert (folder / "experiment1_grid.png").read_bytes()[:4] == b"\x89PNG"
    assert (folder / "experiment1_grid.pdf").read_bytes()[:4] == b"%PDF"


class _Reader(html.parser.HTMLParser):
    """Tags that were opened and not closed, sources, and text."""

    def __init__(self):
        super().__init__()
        self.open, self.sources, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_is_whole_escaped_and_needs_nothing_else(written):
    page = (written[0] / "report.html").read_text(encoding="utf-8")
    reader = _Reader()
    reader.feed(page)
    assert reader.open == []
    assert all(source.startswith(("data:image/", "#")) for source in reader.sources)
    assert sum(source.startswith("data:image/svg+xml") for source in reader.sources) == 6
    assert not re.search(r"https?://|@import|url\(", re.sub(r'src="data:[^"]*"', "", page))
    text = "".join(reader.text)
    assert _NASTY in text
    assert "<b>memory" not in page
    for fact in (
        "Made <up>",
        "2 cores of synthetic CPU",
        "jax 0",
        "0123456789abcdef",
        "one.jsonl",
        "optimistic",
        "compile time",
        "bleu|synthetic:yes",
        "rows read",
    ):
        assert fact in text, fact


def test_the_tables_hold_what_the_papers_report(written):
    text = (written[0] / "tables.md").read_text(encoding="utf-8")
    best = text.split("**Llama-2-7B / WMT: best structures**")[1].split("**")[0]
    lines = [re.split(r" *(?<!\\)\| *", line)[1:-1] for line in best.strip().splitlines()]
    assert lines[0][:4] == ["draft length", "method", "best tree", "tried"]
    assert lines[2][6].endswith("tokens/s")
    assert lines[2][7].endswith("bleu")
    assert [line[1] for line in lines[3:7]] == ["SD", "SpecTr", "RSD-C", "RSD-S"]
    assert re.fullmatch(r"\d\.\d\d \[\d\.\d\d, \d\.\d\d\]", lines[3][4])
    assert "RSD-S ≥ RSD-C" in text
    assert "\\| of $x_1$ in two lines" in text
    every = text.split("**Llama-2-7B / WMT: all structures**")[1].split("**")[0]
    assert len(every.strip().splitlines()) == 2 + 1 + 14 + 13 - 1
    tex = (written[0] / "tables.tex").read_text(encoding="utf-8")
    assert tex.count(r"\begin{tabular}") == tex.count(r"\end{tabular}") > 0
    assert tex.count(r"\begin{longtable}") == 3
    assert "≥" not in tex
    for line in tex.splitlines():
        if line.endswith(r"\\"):
            assert "_" not in line.replace(r"\_", "")


def test_escapes():
    assert escape_latex("a_b & 5% {x} \\ ≥\n1") == (r"a\_b \& 5\% \{x\} \textbackslash{} $\geq$ 1")
    table = Table(("a", "b"), [("<i>", "x|y")], title="t & u")
    assert "<td" in table.html()
    assert "&lt;i&gt;" in table.html()
    assert "t &amp; u" in table.html()
    assert "x\\|y" in table.markdown()


@pytest.mark.parametrize("count", [1, 7])
def test_the_grid_is_the_published_one(count):
    panels = panels_of(synthetic_rows.experiment1(synthetic_rows.PANELS[:count], lengths=(2, 3)))
    figure = grid_figure(panels, _FIRST, "block_efficiency", "caption")
    assert len(figure.axes) == 4 * count
    for number, axes in enumerate(figure.axes):
        lines = {line.get_color(): line for line in axes.get_lines() if len(line.get_xdata()) == 2}
        last_row, column = number >= 4 * (count - 1), number % 4
        assert axes.get_xlabel() == ("draft length" if last_row else "")
        shown = [label.get_text() for label in axes.get_xticklabels() if label.get_visible()]
        assert shown == (["2", "3"] if last_row else [])
        if column == 3:
            assert axes.get_ylim() == (0.7, 1.3)
        if number == 27:
            assert [text.get_text() for text in axes.texts] == ["no reference metric"]
            continue
        for method in ("sd", "spectr", "rsd_c", "rsd_s"):
            style = base.STYLES[method]
            assert lines[style.color].get_linestyle() == style.line
            assert lines[style.color].get_marker() == style.marker
        assert len(axes.collections) == 4, "a band per method"
    legend = figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["SD", "SpecTr", "RSD-C", "RSD-S"]


def test_gaps_and_single_points_are_drawn():
    rows = synthetic_rows.experiment1(_SOME[:1])
    rows = [r for r in rows if not (r.method == "rsd_s" and r.draft_length == 3)]
    rows = [synthetic_rows.changed(r, accuracy_ratio=2.0) if r.tree == "2-1" else r for r in rows]
    (panel,) = panels_of(rows)
    figure = grid_figure([panel], _FIRST, "block_efficiency", "")
    blue = [k for k in figure.axes[0].get_lines() if k.get_color() == base.STYLES["rsd_s"].color]
    assert [4, 5] in [list(line.get_xdata()) for line in blue]
    assert "RSD-S at 3" in missing_methods(panel, _FIRST)[0]


def test_every_structure_is_in_its_figure():
    panels = panels_of(synthetic_rows.experiment2(_SOME[:1]))
    figure = structures_figure(
        panels, EXPERIMENTS["experiment2"], "block_efficiency", "token_rate_ratio", ""
    )
    assert len(figure.axes) == 5
    markers = [k for k in figure.axes[4].get_lines() if k.get_marker() not in ("None", "")]
    assert len(markers) == 1 + 2 + 2 + 5
    filled = [k for k in markers if k.get_markerfacecolor() != "white"]
    assert len(filled) == 4
    names = [text.get_text().strip() for text in figure.axes[4].texts]
    assert names[0] == "target budget 30"
    assert len(names) == 4, "the only structure of SD needs no name"


def test_rows_of_no_experiment_are_drawn_as_bars(tmp_path):
    rows = synthetic_rows.experiment1(_SOME[:1], lengths=(2,))
    rows = [dataclasses.replace(row, experiment=None) for row in rows]
    paths = write_report(rows, Output(tmp_path, formats=("svg",)))
    assert sorted(path.name for path in paths) == [
        "comparison_1.svg",
        "report.html",
        "tables.md",
        "tables.tex",
    ]
    assert all(path.is_file() for path in paths)
    assert "Comparison of methods" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_what_makes_numbers_less_comparable_is_said():
    rows = synthetic_rows.experiment1(_SOME[:1], lengths=(2,))[1:]
    other = dataclasses.replace(rows[0].hardware, cores=64)
    rows[0] = dataclasses.replace(rows[0], hardware=other)
    (panel,) = panels_of(rows)
    said = " ".join(notices(panel))
    for text in ("2 machines", "autoregressive decoding was not measured"):
        assert text in said


def test_bad_input_is_one_clear_error(tmp_path):
    rows = synthetic_rows.experiment1(_SOME[:1], lengths=(2,))
    good = _write(tmp_path / "good.jsonl", rows)
    malformed = tmp_path / "malformed.jsonl"
    malformed.write_text(to_json(rows[0]) + "\n{}\n" + to_json(rows[1]) + "\n", encoding="utf-8")
    out = f"--out_dir={tmp_path / 'out'}"
    for arguments, expected in (
        ((tmp_path / "absent.jsonl", out), "no results file"),
        ((malformed, out), "line 2"),
        ((good, out, "--best_by=speed"), "best_by='speed'"),
        ((good, out, "--config_hash=abc"), "no row has this hash"),
    ):
        run = _launch(*arguments)
        assert run.returncode == 1
        assert run.stderr.startswith("error: ")
        assert expected in run.stderr
    output = Output(tmp_path / "out")
    with pytest.raises(ConfigError, match="hold no row"):
        write_report([], output)
    failed = [synthetic_rows.failed(row, "why it failed") for row in rows]
    with pytest.raises(ConfigError, match=r"none of .* why it failed"):
        write_report(failed, output)
    with pytest.raises(ConfigError, match="'gif'"):
        write_report(rows, Output(tmp_path, formats=("gif",)))
    assert not (tmp_path / "out").exists()


def test_a_method_with_another_verifier_is_a_line_of_its_own():
    """In figure and tables; the published ordering is for the default verifiers."""
    rows = synthetic_rows.experiment1(_SOME[:1], lengths=(2, 3))
    others = [
        synthetic_rows.changed(row, verifier="k_seq", block_efficiency=9.0)
        for row in rows
        if row.method == "sd"
    ]
    (panel,) = panels_of([*rows, *others])
    figure = grid_figure([panel], _FIRST, "block_efficiency", "")
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["SD", "SD, K-SEQ", "SpecTr", "RSD-C", "RSD-S"]
    assert "SD, K-SEQ" in [row[1] for row in best_table(panel, _FIRST, "mbsu").rows]
    links = orderings(panel, _FIRST)
    assert {link.values[1] for link in links if link.below == "sd"}.isdisjoint({9.0})
