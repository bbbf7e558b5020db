"""From rows to panels, best structures and verdicts on the published orderings."""

import pytest

from rsd_jax import ConfigError
from rsd_jax.reporting.experiment.definitions import EXPERIMENTS
from rsd_jax.reporting.experiment.selection import best_structures, orderings
from rsd_jax.reporting.names import pretty
from rsd_jax.reporting.panels import latest_rows, panels_of
from tests import synthetic_rows

_FIRST = EXPERIMENTS["experiment1"]
_ONE = synthetic_rows.PANELS[:1]


def _rows(**options):
    return synthetic_rows.experiment1(_ONE, lengths=(2,), **options)


def _with(row, **values):
    return synthetic_rows.changed(row, **values)


def _set(rows, method, tree, value, half=0.1):
    """The rows with another block efficiency of one structure."""
    ends = (value - half, value + half)
    return [
        _with(row, block_efficiency=value, block_efficiency_interval=ends)
        if (row.method, row.tree) == (method, tree)
        else row
        for row in rows
    ]


def test_the_last_finished_row_of_a_cell_wins():
    row = next(row for row in _rows() if row.method == "rsd_s")
    failed = synthetic_rows.failed(row, "out of memory")
    again = _with(row, block_efficiency=2.9)
    assert latest_rows([failed, row, again]) == [again]
    assert latest_rows([row, failed]) == [row]
    assert latest_rows([failed, _with(failed, message="later")])[0].message == "later"
    (panel,) = panels_of([failed, *_rows()])
    assert panel.unfinished == ()
    (panel,) = panels_of([row, _with(failed, tree="7x2")])
    assert [cell.tree for cell in panel.structures] == [row.tree]
    assert [row.tree for row in panel.unfinished] == ["7x2"]


def test_seeds_are_combined_by_the_mean():
    row = next(row for row in _rows() if row.method == "rsd_s")
    other = _with(
        row, seed=1, block_efficiency=4.0, block_efficiency_interval=(3.0, 5.0), mbsu=None
    )
    (panel,) = panels_of([row, other])
    (found,) = panel.structures
    low, high = row.decoding.block_efficiency_interval
    assert found.seeds == (0, 1)
    assert found.value("block_efficiency") == pytest.approx((row.decoding.block_efficiency + 4) / 2)
    assert found.interval("block_efficiency") == pytest.approx(((low + 3) / 2, (high + 5) / 2))
    assert found.value("mbsu") == row.decoding.mbsu
    assert found.value("phase_times") is None


def test_the_best_structure_is_picked_by_one_metric():
    rows = _set(_rows(), "rsd_c", "2-2", 9.0)
    rows = [_with(r, token_rate_ratio=9.0) if r.tree == "3-2" else r for r in rows]
    (panel,) = panels_of(rows)
    choice = best_structures(panel, _FIRST)["rsd_c", 2]
    assert choice.best.tree == "2-2"
    assert {cell.tree for cell in choice.tried} == {"2-1", "2-2", "3-2", "4-2", "5-5"}
    assert best_structures(panel, _FIRST, "token_rate_ratio")["rsd_c", 2].best.tree == "3-2"
    equal = [_with(row, block_efficiency=2.0) for row in rows]
    (panel,) = panels_of(equal)
    assert best_structures(panel, _FIRST)["rsd_s", 2].best.tree == "2x2"
    with pytest.raises(ConfigError, match="best_by='speed'"):
        best_structures(panel, _FIRST, "speed")
    (panel,) = panels_of([_with(row, mbsu=None) for row in rows])
    with pytest.raises(ConfigError, match="choose another"):
        best_structures(panel, _FIRST, "mbsu")


def test_budgets_compare_structures_of_different_lengths():
    (panel,) = panels_of(synthetic_rows.experiment2(_ONE))
    choices = best_structures(panel, EXPERIMENTS["experiment2"])
    assert {at for _, at in choices} == {6, 10, 14, 21, 30}
    assert {cell.rows[0].draft_length for cell in choices["rsd_s", 30].tried} == {5, 6}
    row = next(row for row in synthetic_rows.experiment2(_ONE) if row.method == "sd")
    (panel,) = panels_of([_with(row, target_budget=None)])
    with pytest.raises(ConfigError, match="target_budget null"):
        best_structures(panel, EXPERIMENTS["experiment2"])


@pytest.mark.parametrize(
    ("above", "below", "half", "verdict"),
    [
        (3.0, 2.0, 0.1, "holds outside the intervals"),
        (3.0, 2.9, 0.1, "holds within the intervals"),
        (2.9, 3.0, 0.1, "violated within the intervals"),
        (2.0, 3.0, 0.1, "violated outside the intervals"),
    ],
)
def test_verdicts_on_the_ordering(above, below, half, verdict):
    rows = [row for row in _rows() if row.tree in ("-", "2", "2-2", "2x2")]
    rows = _set(_set(rows, "rsd_s", "2x2", above, half), "rsd_c", "2-2", below, half)
    (panel,) = panels_of(rows)
    links = {(link.above, link.below): link for link in orderings(panel, _FIRST)}
    assert list(links) == [("rsd_s", "rsd_c"), ("rsd_c", "spectr"), ("spectr", "sd")]
    assert links["rsd_s", "rsd_c"].verdict == verdict
    bare = [_with(row, block_efficiency_interval=None) for row in rows]
    (panel,) = panels_of([row for row in bare if row.method != "sd"])
    found = [link.verdict for link in orderings(panel, _FIRST)]
    assert found[0] == f"{verdict.split()[0]}, no intervals"
    assert found[2] == "not measured"


def test_panels_are_told_apart_and_named():
    warm = [_with(row, temperature=1.0) for row in _rows()]
    first, second = panels_of(_rows() + warm)
    assert first.label == "Llama-2-7B / WMT (temperature 0.3)"
    assert second.label == "Llama-2-7B / WMT (temperature 1.0)"
    assert second.ar.rows[0].temperature == 1.0
    assert pretty("random llama2_chat_13b") == "random Llama-2-Chat-13B"
    assert pretty("opt_13b_350m") == "OPT-13B with OPT-350M"
    assert pretty("quickstart") == "quickstart"


def test_one_row_of_autoregressive_decoding_serves_all_panels():
    rows = [_with(r, experiment=None) if r.method == "ar" else r for r in _rows()]
    (panel,) = panels_of(rows)
    assert panel.ar.rows[0].experiment is None
    drafted = [_with(r, draft_temperature=0.5) if r.method != "ar" else r for r in rows]
    (panel,) = panels_of(drafted)
    assert panel.ar is not None
    two = _rows(seeds=(0, 1))
    two[0] = synthetic_rows.failed(two[0], "no autoregressive decoding")
    (panel,) = panels_of(two)
    assert panel.ar.seeds == (1,)
    assert panel.unfinished == (two[0],)


def test_mixed_runs_are_refused():
    rows = _rows()
    rows[-1] = _with(rows[-1], config_hash="f" * 16)
    with pytest.raises(ConfigError, match=r"different settings.*--config_hash=0123456789abcdef"):
        panels_of(rows)
    rows[-1] = synthetic_rows.failed(rows[-1], "of another run")
    assert len(panels_of(rows)) == 1


@pytest.mark.parametrize(
    ("field", "what"), [("weights_sha256", "weights"), ("prompts_sha256", "prompts")]
)
def test_rows_of_two_pairs_or_sets_of_prompts_are_not_one_panel(field, what):
    """Otherwise the rows of one would replace the rows of the other, cell by cell."""
    rows = [_with(row, **{field: "a" * 64}) for row in _rows()]
    others = [_with(row, **{field: "b" * 64}) for row in rows[: len(rows) // 2]]
    with pytest.raises(ConfigError, match=f"different {what}, {field} a+ .* and b+ "):
        panels_of([*rows, *others])
