"""The report's tables of acceptance by position and by category."""

from rsd_jax.reporting.acceptance.section import categories_table, positions_table, sections
from rsd_jax.reporting.page import Output
from rsd_jax.reporting.panels import panels_of
from rsd_jax.reporting.report import write_report
from tests import synthetic_rows

_CATEGORIES = dict(
    category_prompts={"qa": 2, "rag": 1},
    category_produced={"qa": 30, "rag": 10},
    category_blocks={"qa": 10, "rag": 5},
    category_block_efficiency={"qa": 3.0, "rag": 2.0},
    category_intervals={"qa": (2.5, 3.5)},
    category_depths={"qa": [1, 2, 7], "rag": [2, 1, 2]},
)


def _rows(seeds=(0, 1)):
    rows = []
    for row in synthetic_rows.experiment1(synthetic_rows.PANELS[:1], seeds=seeds, lengths=(2,)):
        if row.method == "sd":
            depths = [1, 2, 7] if row.seed == 0 else [3, 4, 3]
            row = synthetic_rows.changed(row, accepted_depths=depths, **_CATEGORIES)
        rows.append(row)
    return rows


def test_positions_are_fractions_of_blocks_over_all_seeds():
    (panel,) = panels_of(_rows())
    table = positions_table(panel)
    line = next(line for line in table.rows if line[0] == "SD")
    # Blocks by accepted tokens: 4, 6, 10; 16 of 20 accept one token or more, 10 of 20 two.
    assert line == ["SD", "2", "20", "0.800", "0.500"]
    assert table.heads == ("method", "tree", "blocks", "1", "2")


def test_categories_have_columns_and_intervals():
    (panel,) = panels_of(_rows())
    table = categories_table(panel)
    assert table.heads == ("method", "tree", "qa", "rag")
    assert table.rows == [["SD", "2", "3.00 [2.50, 3.50]", "2.00"]]


def test_the_report_has_both(tmp_path):
    output = Output(folder=tmp_path, title="Made up")
    write_report(_rows(), output)
    for name in ("tables.md", "report.html"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert "acceptance by position" in text
        assert "block efficiency by category" in text
    plain = synthetic_rows.experiment1(synthetic_rows.PANELS[:1], lengths=(2,))
    bare = [synthetic_rows.changed(row, accepted_depths=None) for row in plain]
    assert len(bare) > 2
    assert sections(bare, output) == []
