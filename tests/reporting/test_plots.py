"""The comparison of methods, from the measurement to rows, table and figure."""

import dataclasses
import math

import jax
import numpy as np
import pytest

from rsd_jax import ConfigError, LoadedModel, build_method
from rsd_jax.core.types import Origin
from rsd_jax.core.warp import make_warp
from rsd_jax.engine.request import Sampling
from rsd_jax.evaluation.comparison import compare, steps
from rsd_jax.evaluation.measured_rows import comparison_rows, peer_row
from rsd_jax.evaluation.peers import Peer
from rsd_jax.evaluation.verification import time_verification
from rsd_jax.models.config import LlamaConfig
from rsd_jax.models.llama import LlamaModel
from rsd_jax.records.files import append_row, read_rows
from rsd_jax.records.rows import own_verifier
from rsd_jax.reporting.comparison.bars import plot_comparison
from rsd_jax.reporting.comparison.table import comparison_table
from rsd_jax.reporting.figures import STYLES, style_of
from tests import synthetic_rows

_SAMPLING = Sampling(max_new_tokens=6, temperature=0.7, seed=3)
_PROMPTS = [[1, 2, 3], [4], [5, 6, 7, 8, 9]]


def _config(hidden):
    return LlamaConfig(
        vocab_size=16,
        hidden_size=hidden,
        intermediate_size=16,
        num_layers=1,
        num_heads=2,
        num_kv_heads=1,
        head_dim=8,
        max_positions=256,
    )


def _model(hidden, seed):
    model = LlamaModel(_config(hidden))
    return LoadedModel(model, jax.jit(model.init_params)(jax.random.key(seed)))


@pytest.fixture(scope="module")
def run():
    """AR, SD and a peer of no skill on a tiny pair: (measured, rows, progress lines)."""
    methods = [build_method("ar"), build_method("sd", length=1)]
    target, draft = _model(16, 0), _model(8, 1)
    lines: list[str] = []
    peer = Peer("peer", 2, lambda batch: _SAMPLING.max_new_tokens * len(batch), ("torch",))
    measured, (other,) = compare(
        methods, target, draft, _PROMPTS, _SAMPLING, lines.append, peers=[peer]
    )
    assert len(lines) == steps(methods, _PROMPTS) + len(_PROMPTS)
    rows = comparison_rows(
        measured, target, draft, _SAMPLING, source="test", pair="tiny", task="none"
    )
    beside = peer_row(other, rows[0])
    part, first = beside.decoding, rows[0].decoding
    assert (beside.method, beside.tree, beside.verifier) == ("peer", "2", None)
    assert part.tokens == first.tokens
    assert set(beside.versions) - set(rows[0].versions) == {"torch"}
    assert part.token_rate_ratio == pytest.approx(part.token_rate / first.token_rate)
    return measured, rows, lines


def test_verification_is_timed_by_every_verifier_that_fits():
    method = build_method("sd", length=1)
    seconds = time_verification(method, make_warp(0.5, None, 0.9), vocab_size=8, batch=2, repeats=1)
    assert {"recursive_rejection", "recursive_rejection, all", "coupling"} <= set(seconds)
    assert all(taken > 0 for taken in seconds.values())


def test_every_prompt_is_timed_with_every_method(run):
    measured, _, lines = run
    assert lines[0] == "ar: compiled"
    for one in measured:
        assert one.seconds.shape == (len(_PROMPTS),)
        assert (one.seconds > 0).all()
        assert [len(row) for row in one.tokens] == [_SAMPLING.max_new_tokens] * len(_PROMPTS)
        assert (one.stats.produced >= _SAMPLING.max_new_tokens).all()


def test_rows_follow_from_the_counts(run, tmp_path):
    (ar, sd), rows, _ = run
    assert [row.method for row in rows] == ["ar", "sd"]
    first = rows[0].decoding
    assert first.block_efficiency == first.mbsu == first.token_rate_ratio == 1.0
    row, part = rows[1], rows[1].decoding
    assert part.tokens == 18
    assert part.produced == sd.stats.produced.sum()
    assert part.block_efficiency == pytest.approx(part.produced / part.blocks)
    assert part.mbsu == pytest.approx(part.block_efficiency / (1 + part.bytes_ratio.r))
    assert part.token_rate_ratio == pytest.approx(ar.seconds.sum() / sd.seconds.sum())
    low, high = part.token_rate_ratio_interval
    assert low <= part.token_rate_ratio <= high
    assert sum(part.accepted_depths) == part.blocks
    assert (row.draft_length, row.target_budget, row.tree) == (1, 1, "1")
    for one in rows:
        append_row(tmp_path / "rows.jsonl", one)
    assert read_rows(tmp_path / "rows.jsonl") == rows


def test_rows_say_where_weights_without_a_path_came_from(run):
    measured, rows, _ = run
    assert {(row.weights_from, row.weights_files_sha256) for row in rows} == {(None, None)}
    draft = dataclasses.replace(_model(8, 1), origin=Origin("owner/name@commit", "00"))
    for row in comparison_rows(
        measured, _model(16, 0), draft, _SAMPLING, source="test", pair="tiny", task="none"
    ):
        assert row.weights_from == {"draft": "owner/name@commit"}
        assert row.weights_files_sha256 == {"draft": "00"}


def test_the_table_has_a_line_per_row(run):
    _, rows, _ = run
    lines = comparison_table(rows).splitlines()
    assert len(lines) == 4
    assert lines[2].split()[:4] == ["ar", "-", "1.00", "1.00"]
    assert lines[3].split()[-1] == "18"
    markdown = comparison_table(rows, markdown=True).splitlines()
    assert {line.count("|") for line in markdown} == {8}
    unmeasured = synthetic_rows.changed(rows[1], mbsu=None)
    assert comparison_table([unmeasured]).splitlines()[2].split()[3] == "-"


def test_the_figure_shows_each_method_in_its_colour(run, tmp_path):
    from matplotlib import colors, image

    _, rows, _ = run
    five = [
        dataclasses.replace(rows[1], method=method, verifier=own_verifier(method))
        for method in STYLES
    ]
    picture = image.imread(plot_comparison(five, tmp_path / "deeper" / "figure.png"))[..., :3]
    assert picture.shape[0] > 400
    assert picture.shape[1] > 1000
    for style in STYLES.values():
        distance = np.abs(picture - np.asarray(colors.to_rgb(style.color))).max(axis=-1)
        assert (distance < 0.01).mean() > 0.005, style.label
    assert math.isclose(picture[0, 0].min(), 1.0)


def test_rows_that_cannot_be_drawn(run, tmp_path):
    _, rows, _ = run
    target = LoadedModel(LlamaModel(_config(16)), {})
    failed = dataclasses.replace(rows[0], status="failed", message="why")
    with pytest.raises(ConfigError, match="no finished row"):
        plot_comparison([failed], tmp_path / "figure.png")
    assert style_of("another").label == "another"
    assert style_of("rsd_s/match").label == "RSD-S, match"
    assert style_of("rsd_s/match").color != STYLES["rsd_s"].color
    with pytest.raises(ConfigError, match="prompts is empty"):
        compare([], target, None, [], _SAMPLING)
