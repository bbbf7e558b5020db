"""The report's section on expected tokens."""

import pytest

from rsd_jax.reporting.expected import contests, figure, optimum, tables
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
            if base.method in ("spectr", "rsd_s") and temperature == 1:
                part |= {
                    "optimum_blocks": 240,
                    "optimum_siblings": 3,
                    "optimum": 0.9,
                    "root_acceptance": {"recursive_rejection": 0.7, "match": 0.5, "coupling": 0.8},
                    "distance_left": {"recursive_rejection": 1.0, "match": 2.0, "coupling": 0.5},
                    "distance_left_intervals": {
                        "recursive_rejection": (1.0, 1.0),
                        "match": (1.9, 2.1),
                        "coupling": (0.45, 0.6),
                    },
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


def test_shares_of_a_block():
    rows = _rows(temperatures=(1.0,))
    phases = {"draft": 0.004, "score": 0.004, "verify": 0.001, "commit": 0.001}
    timed = {"t_ar": 0.002, "t_block": 0.008, "realised_fraction": 1.0}
    rows = [
        synthetic_rows.changed(row, phase_times=phases | {"forwards": 0.006}, **timed)
        if (row.method, row.tree) == ("rsd_s", "2x3")
        else row
        for row in rows
    ]
    (contest,) = contests.contests_of(rows)
    table = tables.costs_table(contest)
    assert len(table.rows) == sum(row.expected is not None for row in rows)
    shares = {(row[0], row[1]): row[-2:] for row in table.rows}
    assert shares.pop(("RSD-S", "2x3")) == ["10 %", "25 %"]
    assert set(map(tuple, shares.values())) == {("-", "-")}
    first = table.rows[0]
    assert all("[" in cell for cell in first[4:6]), "both rates have their intervals"


def test_what_is_closed_of_the_distance_to_the_optimum():
    (contest,) = contests.contests_of(_rows())
    table = optimum.optimum_table(contest)
    assert {row[0] for row in table.rows} == {"SpecTr", "RSD-S"}
    assert table.rows[0][4:] == [
        *("240", "0.900", "0.700 (0 % [0, 0])", "0.500 (-100 % [-110, -90])"),
        "0.800 (50 % [40, 55])",
    ]
    drawn = optimum.optimum_figure(contest, "a caption")
    (axes,) = (axes for axes in drawn.axes if axes.get_visible())
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["SpecTr\n3", "RSD-S\n3"]
    assert [text.get_text() for text in drawn.legends[0].texts] == ["coupling"], "match is below"
    assert not optimum.has_distance(contests.contests_of(_rows(temperatures=(0.3,)))[0])


def test_captions_name_the_verifiers_whose_contexts_are_drawn():
    rows = _rows()
    (contest,) = contests.contests_of(rows)
    assert figure.contexts_in_words(contest) == (
        "recursive rejection (SD), recursive rejection (SpecTr), recursive rejection (RSD-C), "
        "recursive rejection (RSD-S)"
    )
    (contest,) = contests.contests_of([row for row in rows if row.method != "spectr"])
    assert figure.contexts_in_words(contest) == "each method's own verifier"


def test_intervals_are_corrected_for_their_number():
    assert tables.corrected(1.02, (1.0, 1.03), 1) == pytest.approx((1.0, 1.03))
    low, high = tables.corrected(1.02, (1.0, 1.03), 50)
    wider = 3.2905 / 1.9600  # of the normal law, at 0.05 / 100 and 0.05 / 2
    assert (low, high) == pytest.approx((1.02 - 0.02 * wider, 1.02 + 0.01 * wider), abs=1e-4)


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
    assert {"gain_temperature_1.svg", "gain_target_budget_1.svg", "optimum_1.svg"} <= names
    assert not any(name.startswith("comparison") for name in names), "too many bars to read"
    text = (tmp_path / "tables.md").read_text(encoding="utf-8")
    assert "## Verifiers on the same trees" in text
    assert "gain over K-SEQ" in text
    few = _rows(temperatures=(1.0,))[:4]
    names = {path.name for path in write_report(few, Output(tmp_path / "few", formats=("svg",)))}
    assert {"comparison_1.svg", "gain_temperature_1.svg"} <= names
