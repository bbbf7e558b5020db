"""Passes with sub-layers skipped: what is timed, its rows, and the figure."""

import dataclasses
import pathlib

import pytest

import rsd_jax
from rsd_jax.evaluation.floors import kept_fraction
from rsd_jax.evaluation.skipped_passes import random_sets, skipping_rows, time_skipped_passes
from rsd_jax.models.llama import LlamaModel
from rsd_jax.models.loading import random_model
from rsd_jax.models.shapes import NAMED_CONFIGS
from rsd_jax.records.files import append_row, read_rows
from rsd_jax.reporting.page import Output
from rsd_jax.reporting.report import write_report
from rsd_jax.reporting.skipping.costs import skip_cost_table, skip_costs_of
from rsd_jax.testing.tiny_llama import TINY_CONFIG, tiny_params
from tests import synthetic_rows
from tests.compile_meter import compilations


def test_sets_go_from_nothing_to_all_switches():
    sets = random_sets(6, most=4)
    assert [int(skips.sum()) for skips in sets] == [0, 3, 5, 8]
    assert not any(skips[[0, -1]].any() for skips in sets)
    assert len(random_sets(4)) == 5, "as many sizes as there are"
    with pytest.raises(rsd_jax.ConfigError, match="at least 3 layers"):
        random_sets(2)


def test_passes_become_rows_and_a_figure(tmp_path: pathlib.Path):
    config = dataclasses.replace(TINY_CONFIG, num_layers=4)
    target = rsd_jax.LoadedModel(LlamaModel(config), tiny_params(0, config))
    sets = random_sets(4)
    passes = time_skipped_passes(target, sets, context=20, steps=1, repeats=1)
    with compilations() as programs:
        time_skipped_passes(target, sets[::-1], context=20, steps=1, repeats=1)
    assert programs == [], "sets are data"
    expected = [
        kept_fraction(target.model, tuple(s.sum(axis=0).tolist()), context=20) for s in sets
    ]
    assert [one.kept_fraction for one in passes] == pytest.approx(expected)
    assert passes[0].t_draft_ratio == 1.0
    made = skipping_rows(passes, sets, target, pair="tiny", batch=1, context=20)
    assert [row.skipping for row in made] == passes
    # Times of such a model say nothing; those of the figure are made up.
    made = [
        synthetic_rows.changed(row, t_draft_ratio=0.9 * row.skipping.kept_fraction) for row in made
    ]
    path = tmp_path / "rows.jsonl"
    for row in made:
        append_row(path, row)
    (costs,) = skip_costs_of([*made[::-1], *made])
    assert costs.passes == tuple(made)
    table = skip_cost_table(costs)
    assert [row[0] for row in table.rows] == [f"{kept} of 8" for kept in (8, 7, 6, 5, 4)]
    assert {row[-1] for row in table.rows} == {"-10.0%"}
    written = write_report(read_rows(path), Output(tmp_path / "out", formats=("png",)))
    assert (tmp_path / "out/skipping.png") in written
    assert "What a skipped sub-layer costs" in (tmp_path / "out/report.html").read_text()


def test_a_random_model_of_another_depth(monkeypatch):
    monkeypatch.setitem(NAMED_CONFIGS, "tiny", TINY_CONFIG)
    model = random_model("tiny", layers=3, dtype="bfloat16").model
    assert (model.num_layers, model.dtype) == (3, "bfloat16")
    assert model.config.hidden_size == TINY_CONFIG.hidden_size
    with pytest.raises(rsd_jax.ConfigError, match="layers=0"):
        random_model("tiny", layers=0)
    with pytest.raises(rsd_jax.ConfigError, match="unknown shape"):
        random_model("llama")
