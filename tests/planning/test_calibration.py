"""Calibration: expected tokens against runs of each method, the file, and what it refuses."""

import dataclasses
import json

import numpy as np
import pytest

import rsd_jax
from rsd_jax.engine.job import prepare
from rsd_jax.engine.request import Request
from rsd_jax.evaluation.expected import expected_run
from rsd_jax.planning import against, calibrate, load_calibration, seconds
from rsd_jax.planning.calibrate import steps
from rsd_jax.planning.seconds import batches_to_time
from rsd_jax.records.decoding import Decoding
from tests import synthetic_rows, tiny

PROMPTS = tiny.PROMPTS * 8
OPTIONS = {"max_new_tokens": 24, "seed": 5}
WIDE = rsd_jax.build_method("rsd_s", width=3, length=2)
LOOKUP = rsd_jax.build_method("lookup", length=2)
METHODS = (
    rsd_jax.build_method("ar"),
    rsd_jax.build_method("sd", length=1),
    LOOKUP,
    rsd_jax.build_method("rsd_s", width=2, length=2, verifier="coupling"),
    WIDE,
)
COMPARED = METHODS[2:]
"""Those that are run alone too."""


@pytest.fixture(scope="module")
def calibration():
    said = []
    found = calibrate(
        *tiny.pair(),
        PROMPTS,
        METHODS,
        temperatures=(1.0,),
        repeats=1,
        timed_batches=2,
        report=said.append,
        **OPTIONS,
    )
    assert len(said) == steps(METHODS, (1.0,), len(PROMPTS), timed_batches=2)
    both = steps(METHODS, (0.0, 1.0), len(PROMPTS), timed_batches=2)
    assert both == 2 * len(said) + 1  # greedy beams have a run per width
    return found


def _own(method):
    """Expected tokens of a block on the method's own contexts, and their standard error."""
    request = Request.of(PROMPTS, temperature=1.0, **OPTIONS)
    run = expected_run(prepare(method, *tiny.pair(), request), {"own": method.verifier})
    sums, blocks = run.sums["own"], run.result.stats.blocks
    mean = sums.sum() / blocks.sum()
    return mean, np.sqrt(((sums - mean * blocks) ** 2).sum()) / blocks.sum()


def test_expected_tokens_are_those_of_each_methods_own_run(calibration):
    for method, entry in zip(METHODS, calibration.expected, strict=True):
        assert entry.build() == method
        assert entry.nodes == method.drafter.max_nodes
        assert min(entry.seconds, entry.prompt_seconds) > 0
        assert 1 <= entry.answer <= OPTIONS["max_new_tokens"]
        if method.name == "ar":
            assert (entry.tokens, entry.blocks) == (1.0, 0)
        if method not in COMPARED:
            continue
        mean, error = _own(method)
        if method in (WIDE, LOOKUP):  # the run that its family shared
            assert entry.tokens == pytest.approx(mean, rel=1e-6)
            assert 0.5 * error < entry.standard_error < 2 * error
        # The contexts of the others are of the same texts, but not the same.
        assert abs(entry.tokens - mean) < 5 * np.hypot(error, entry.standard_error) + 0.02


def test_the_rate_is_that_of_a_whole_answer(calibration):
    entry = dataclasses.replace(
        calibration.expected[0], answer=10.0, tokens=2.0, seconds=0.1, prompt_seconds=0.5
    )
    assert entry.tokens_per_second == pytest.approx(10.0)  # five blocks and the prompt take 1 s


def test_the_fastest_is_chosen_within_bounds(calibration):
    fastest = calibration.at(1.0)
    rates = [each.tokens_per_second for each in fastest]
    assert rates == sorted(rates, reverse=True)
    assert calibration.best(1.0) == fastest[0]
    assert calibration.best(1.0, max_nodes=1).method == "ar"
    slowest = max(each.seconds for each in fastest)
    assert calibration.best(1.0, max_seconds=slowest) == fastest[0]
    with pytest.raises(rsd_jax.ConfigError, match=r"at most 0\.5 nodes.*the nearest, ar -, has 1"):
        calibration.best(1.0, max_nodes=0.5)
    with pytest.raises(rsd_jax.ConfigError, match=r"=0\.3 was not calibrated, only \[1\.0\]"):
        calibration.best(0.3)


def test_the_file_holds_all(calibration, tmp_path):
    path = tmp_path / "calibration.json"
    calibration.save(path)
    assert load_calibration(path) == calibration
    values = json.loads(path.read_text())
    for changed, message in (
        ({"calibration": 1}, "of version 1, not 2"),
        ({"expected": [{**values["expected"][0], "tokens": "many"}]}, r"tokens.*'many'"),
        ({"conditions": {}}, "conditions"),
    ):
        path.write_text(json.dumps(values | changed))
        with pytest.raises(rsd_jax.ConfigError, match=message):
            load_calibration(path)
    path.write_text("[]")
    with pytest.raises(rsd_jax.ConfigError, match="expected an object"):
        load_calibration(path)
    with pytest.raises(rsd_jax.ConfigError, match="cannot be read"):
        load_calibration(tmp_path / "none.json")


def test_other_models_machines_and_filters_are_named(calibration):
    target, draft = tiny.pair()
    calibration.check(target, draft)
    with pytest.raises(rsd_jax.ConfigError, match=r"something else: target .* there, .* here"):
        calibration.check(draft, draft)
    with pytest.raises(rsd_jax.ConfigError, match=r"draft .* there,  here"):
        calibration.check(target, None)
    with pytest.raises(rsd_jax.ConfigError, match=r"top_p 1\.0 there, 0\.9 here"):
        calibration.check(target, draft, top_p=0.9)
    known = calibration.conditions
    hardware = dataclasses.replace(known.hardware, cpu="another")
    moved = dataclasses.replace(known, hardware=hardware, dtype="bfloat16")
    elsewhere = dataclasses.replace(calibration, conditions=moved)
    with pytest.raises(rsd_jax.ConfigError, match=r"dtype bfloat16 there, float32 here.*another"):
        elsewhere.check(target, draft)


def test_timed_batches_are_spread_over_lengths():
    lengths = [9, 1, 5, 3, 7, 2, 8, 4, 6]
    assert batches_to_time(lengths, 1, 3) == [[5], [2], [6]]  # lengths 2, 5 and 8
    assert batches_to_time(lengths, 1, 99) == [[i] for i in np.argsort(lengths)]
    assert batches_to_time(lengths, 2, 1) == [[2, 8]]
    assert batches_to_time(lengths, 9, 4) == [list(np.argsort(lengths))]
    for batch in batches_to_time(lengths, 4, 8):
        assert len(set(batch)) == 4


class _Clock:
    """The seconds of `timed` calls: of an answer's prompts, then of all its blocks."""

    def __init__(self, taken):
        self._taken = iter(taken)
        self.ends = []

    def timed(self, function, *arguments):
        result = function(*arguments)
        self.ends.append(result)
        return result, next(self._taken)


def test_answers_are_timed_to_their_end(monkeypatch):
    """The median of an answer's repeats; then the mean over answers, or over all blocks."""
    # The answer that compiles; then three repeats of each of two answers, of 3 and 8 blocks.
    of_answers = (9.0, 9.0), (1.0, 6.0), (2.0, 9.0), (9.0, 1.0), (4.0, 7.0), (5.0, 8.0), (6.0, 9.0)
    clock = _Clock(value for both in of_answers for value in both)
    monkeypatch.setattr(seconds, "timed", clock.timed)
    request = Request.of([[1, 2, 3], [4]], max_new_tokens=[8, 3], temperature=0.0)
    said = []
    (found,) = seconds.measure_seconds(
        METHODS[:1],
        *tiny.pair(),
        request,
        batches_to_time([3, 1], 1, 2),
        repeats=3,
        report=said.append,
    )
    lengths = [(state.end - state.prompt_length).tolist() for state in clock.ends[1::2]]
    assert lengths == [[3]] * 4 + [[8]] * 3
    assert found == seconds.Seconds(prefill=(2.0 + 5.0) / 2, block=(6.0 + 8.0) / (3 + 8))
    assert said == ["ar -: compiled", "batch 1 of 2: timed", "batch 2 of 2: timed"]


def test_predictions_beside_rows(calibration):
    known = {each.method: each for each in calibration.expected}
    ar, sd = known["ar"], known["sd"]

    def row(method, tree, *, blocks, produced, seconds, ratio, **fields):
        part = Decoding(
            num_prompts=1,
            tokens=produced,
            seconds=seconds,
            prefill_timed=True,
            token_rate=produced / seconds,
            token_rate_ratio=ratio,
            produced=produced,
            blocks=blocks,
        )
        (like,) = synthetic_rows.experiment1(synthetic_rows.PANELS[:1], lengths=())
        named = {"method": method, "tree": tree, "verifier": "recursive_rejection"}
        known = calibration.conditions
        named |= {"dtype": known.dtype, "hardware": known.hardware}
        named["weights_sha256"] = known.weights
        return dataclasses.replace(like, decoding=part, temperature=1.0, **named | fields)

    rows = [
        row("ar", "-", blocks=100, produced=100, seconds=1.0, ratio=1.0),
        row("sd", "1", blocks=40, produced=60, seconds=0.5, ratio=1.2),
        row("sd", "1", blocks=20, produced=40, seconds=0.3, ratio=1.6, task="another"),
        row("sd", "7", blocks=20, produced=40, seconds=0.3, ratio=1.6),
    ]
    (held,) = against(calibration, rows)
    assert held.expected == sd
    assert held.block_efficiency == pytest.approx(100 / 60)
    # Autoregressive decoding would have taken 0.6 and 0.48 s.
    assert held.rate_ratio == pytest.approx((0.6 + 0.48) / 0.8)
    assert held.predicted_ratio == pytest.approx(sd.tokens_per_second / ar.tokens_per_second)
    without = dataclasses.replace(calibration, expected=(sd,))
    with pytest.raises(rsd_jax.ConfigError, match="ar was not calibrated at T = 1"):
        against(without, rows)
    with pytest.raises(rsd_jax.ConfigError, match="no row is of a method"):
        against(calibration, rows[-1:])


def test_nothing_to_calibrate_is_refused():
    with pytest.raises(rsd_jax.ConfigError, match="at least one method"):
        calibrate(*tiny.pair(), PROMPTS, [], temperatures=(0.0,), **OPTIONS)
    with pytest.raises(rsd_jax.ConfigError, match="timed_rows"):
        calibrate(*tiny.pair(), PROMPTS[:2], METHODS, temperatures=(0.0,), timed_rows=3, **OPTIONS)
    for rows, batches in ((0, 1), (1, 0), (4, 1)):
        with pytest.raises(rsd_jax.ConfigError, match="timed_"):
            batches_to_time([1, 2, 3], rows, batches)
