"""The report's section on expected tokens."""

import pytest

from rsd_jax.reporting.expected import contests, figure, tables
from rsd_jax.reporting.page import Output
from rsd_jax.reporting.report import write_report
from tests import synthetic_rows


def _rows(temperatures=(0.3, 1.0)):
    """Two verifiers per tree at each temperature; coupling gains 10 % at T = 1, 3 % below."""
    rows = []
    for base in synthetic_rows.experiment2(synthetic_rows.PANELS[:1]):
        for temperature in temperatures:
            shared = {"experiment": "arena", "temperature": temperature}
            if base.method == "ar":
                rows.append(synthetic_rows.changed(base, **shared))
                continue
            gain, tau = (1.1 if temperature == 1 else 1.03), base.decoding.block_efficiency
            factors = {"recursive_rejection": 1.0, "match": 0.7, "coupling": gain}
            if base.method == "spectr":
                factors["k_seq"] = 1.02
            bases = ["recursive_rejection", *(["k_seq"] if base.method == "spectr" else [])]
            over = {b: {n: f / factors[b] for n, f in factors.items()} for b in bases}
            ends = {
                b: {n: (g - 0.02, g + 0.02) for n, g in by_name.items()}
                for b, by_name in over.items()
            }
            part = {
                "expected_blocks": 4096,
                "expected_tokens": {n: tau * f for n, f in factors.items()},
                "gains": over,
                "gains_intervals": ends,
            }
            rows += [
                synthetic_rows.changed(base, **shared, **part, verifier=driver)
                for driver in ("recursive_rejection", "coupling")
            ]
    return rows


def test_every_row_is_in_the_table():
    rows = _rows()
    (contest,) = contests.contests_of(rows)
    assert contest.verifiers == ["recursive_rejection", "k_seq", "match", "coupling"]
    table = tables.tokens_table(contest)
    assert len(table.rows) == sum(row.expected is not None for row in rows)
    line = next(row for row in table.rows if row[:3] == ["RSD-S", "2x3", "1"])
    assert line[3] == "recursive rejection"
    assert line[-1].endswith("(+10.0 % [8.0, 12.0])")
    assert line[7] == "-", "K-SEQ does not fit RSD-S"
    (over,) = tables.other_bases(contest)
    assert {row[0] for row in over.rows} == {"SpecTr"}
    summary = {(row[0], row[1]): row for row in tables.summary_table(contest).rows}
    drafted = len(table.rows) // 2
    assert summary["1", "coupling"][2:] == [
        *(str(drafted), "+10.0 %", "+10.0 %", "+10.0 %", str(drafted), "0")
    ]
    assert summary["0.3", "match"][-1] == str(drafted)


@pytest.mark.parametrize(("against", "values"), [("temperature", 2), ("target_budget", 5)])
def test_gains_are_drawn_panel_by_panel(against, values):
    (contest,) = contests.contests_of(_rows())
    drawn = figure.gain_figure(contest, against, "a caption")
    shown = [axes for axes in drawn.axes if axes.get_visible()]
    assert len(shown) == 4 * (7 - values)  # methods x temperatures or budgets
    for axes in shown:
        assert len(axes.get_xticks()) == values
        low, high = axes.get_ylim()
        assert low > -15.1, "match, at -30 %, is left out"
        assert high > 12
    assert [text.get_text() for text in drawn.legends[0].texts] == ["K-SEQ", "match", "coupling"]


def test_the_report_has_the_section(tmp_path):
    rows = _rows()
    paths = write_report(rows, Output(tmp_path, formats=("svg",)))
    names = {path.name for path in paths}
    assert {"gain_temperature_1.svg", "gain_target_budget_1.svg"} <= names
    assert not any(name.startswith("comparison") for name in names), "too many bars to read"
    text = (tmp_path / "tables.md").read_text(encoding="utf-8")
    assert "## Verifiers on the same trees" in text
    assert "gain over K-SEQ" in text
    few = _rows(temperatures=(1.0,))[:4]
    names = {path.name for path in write_report(few, Output(tmp_path / "few", formats=("svg",)))}
    assert {"comparison_1.svg", "gain_temperature_1.svg"} <= names
