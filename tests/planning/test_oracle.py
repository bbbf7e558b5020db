"""What a choice reaches of the fastest method of each task, against hand-made rows."""

import dataclasses

import numpy as np
import pytest

import rsd_jax
from rsd_jax.planning import Calibration, Candidate, Conditions, Expected, against, reached
from rsd_jax.planning.oracle import ALL
from rsd_jax.records.decoding import Decoding
from tests import synthetic_rows

TOKENS = np.asarray([10, 20, 30, 40])
AR_SECONDS = {"short": 0.1, "long": 0.3}  # of a token
# Times as multiples of those of autoregressive decoding, call by call.
TIMES = {
    ("sd", "short"): (0.5, 0.5, 0.5, 0.5),
    ("sd", "long"): (1.0, 1.0, 1.2, 0.8),
    ("lookup", "short"): (0.8, 0.8, 0.8, 0.8),
    ("lookup", "long"): (0.5, 0.6, 0.4, 0.5),
    ("ar", "short"): (1.0,) * 4,
    ("ar", "long"): (1.0,) * 4,
}
(LIKE,) = synthetic_rows.experiment1(synthetic_rows.PANELS[:1], lengths=())
LIKE = dataclasses.replace(LIKE, weights_sha256="ab" * 32)
VERIFIER = "recursive_rejection"
SD, LOOKUP = Candidate("sd", "4", VERIFIER), Candidate("lookup", "4", VERIFIER)


def _row(method, task, *, slower=1.0, calls=True, tokens=TOKENS, **changes):
    seconds = tokens * AR_SECONDS[task] * np.asarray(TIMES[method, task]) * slower
    base_rate = 1 / (AR_SECONDS[task] * slower)
    rate = tokens.sum() / seconds.sum()
    part = Decoding(
        num_prompts=4,
        tokens=int(tokens.sum()),
        seconds=seconds.sum(),
        prefill_timed=True,
        token_rate=rate,
        token_rate_ratio=rate / base_rate,
        produced=100,
        blocks=50,
        call_tokens=tokens.tolist() if calls else None,
        call_seconds=seconds.tolist() if calls else None,
    )
    named = {"method": method, "tree": "-" if method == "ar" else "4", "verifier": VERIFIER}
    fields = {"task": task, "temperature": 1.0, "dtype": "float32", "decoding": part}
    return dataclasses.replace(LIKE, **fields | named | changes)


def _rows(**options):
    return [_row(*names, **options) for names in TIMES]


def _calibration(fastest):
    def entry(method):
        return Expected(
            method=method,
            tree="-" if method == "ar" else "4",
            verifier=VERIFIER,
            temperature=1.0,
            tokens=2.0,
            standard_error=0.1,
            blocks=9,
            nodes=5,
            seconds=0.1 if method == fastest else 0.2,
            prompt_seconds=0.0,
            answer=8.0,
        )

    conditions = Conditions(
        target="",
        draft="",
        weights=LIKE.weights_sha256,
        vocab_size=8,
        dtype="float32",
        hardware=LIKE.hardware,
        prompts=1,
        prompts_sha256="",
        max_new_tokens=8,
        timed_rows=1,
        timed_batches=1,
    )
    return Calibration(conditions=conditions, expected=tuple(map(entry, ("ar", "sd", "lookup"))))


def _reached(fastest, rows):
    return reached(_calibration(fastest), rows, 1.0)


def test_the_choice_and_the_best_single_method_beside_the_oracle():
    short, long, every = _reached("sd", _rows())
    assert (short.task, long.task, every.task) == ("short", "long", ALL)
    assert short.oracle == short.chosen.candidate == SD
    assert (short.oracle_ratio, short.chosen.share) == pytest.approx((2.0, 1.0))
    assert long.oracle == long.single.candidate == LOOKUP
    slow = 1 / (np.dot(TOKENS, TIMES["sd", "long"]) / 100)
    fast = 1 / (np.dot(TOKENS, TIMES["lookup", "long"]) / 100)
    assert (long.oracle_ratio, long.chosen.ratio) == pytest.approx((fast, slow))
    assert long.chosen.share == pytest.approx(slow / fast)
    low, high = long.chosen.interval
    assert low < long.chosen.share < high < 1
    assert long.single.interval == pytest.approx((1.0, 1.0))

    # Autoregressive decoding takes 10 s and 30 s.
    assert every.oracle is None
    assert every.oracle_ratio == pytest.approx(40 / (10 / 2 + 30 / fast))
    assert every.chosen.ratio == pytest.approx(40 / (10 / 2 + 30 / slow))
    assert every.single.candidate == LOOKUP
    assert every.single.ratio == pytest.approx(40 / (10 * 0.8 + 30 / fast))
    low, high = every.chosen.interval
    assert low < every.chosen.share < high


def test_a_choice_for_each_task():
    """The fastest of each task chosen: all of the oracle; the other way round, less of it."""
    by_task = {"short": _calibration("sd"), "long": _calibration("lookup")}
    short, long, every = reached(by_task, _rows(), 1.0)
    assert (short.chosen.candidate, long.chosen.candidate) == (SD, LOOKUP)
    assert every.chosen.candidate is None
    assert every.chosen.ratio == pytest.approx(every.oracle_ratio)
    assert every.chosen.interval == pytest.approx((1.0, 1.0))
    assert every.single == reached(_calibration("sd"), _rows(), 1.0)[-1].single

    *_, every = reached({"short": _calibration("lookup"), "long": _calibration("sd")}, _rows(), 1.0)
    slow = 1 / (np.dot(TOKENS, TIMES["sd", "long"]) / 100)
    assert every.chosen.ratio == pytest.approx(40 / (10 * 0.8 + 30 / slow))
    (short, every) = reached({"short": _calibration("sd")}, _rows(), 1.0)
    assert (short.task, every.oracle_ratio) == ("short", pytest.approx(2.0))
    with pytest.raises(rsd_jax.ConfigError, match=r"no row is of the task 'other', only of"):
        reached(by_task | {"other": _calibration("sd")}, _rows(), 1.0)


def test_rows_of_several_runs_become_alike():
    at_once = _reached("sd", _rows())
    slower = [_row(*n, slower=3.0 if n[0] == "lookup" else 1.0) for n in TIMES]
    again = [_row("ar", "short"), *slower]  # a second run of autoregressive decoding
    for rows in (slower, again, slower[::-1]):
        ours = {each.task: each for each in _reached("sd", rows)}
        for other in at_once:
            one = ours[other.task]
            assert (one.oracle, one.single.candidate) == (other.oracle, other.single.candidate)
            assert one.chosen.share == pytest.approx(other.chosen.share)
    for each in _reached("sd", _rows(calls=False)):
        assert each.chosen.interval is None


def test_seeds_are_paired_whatever_their_order():
    """Twice the same numbers under two seeds: no more samples than once, so the same intervals."""
    once = _rows()
    twice = [*once, *(dataclasses.replace(row, seed=1) for row in reversed(once))]
    for one, other in zip(_reached("sd", once), _reached("sd", twice), strict=True):
        assert other.chosen.share == pytest.approx(one.chosen.share)
        assert other.chosen.interval == pytest.approx(one.chosen.interval)
    unpaired = [row for row in twice if row.seed == 0 or row.method != "sd"]
    short, *others = _reached("sd", unpaired)
    assert short.chosen.interval == pytest.approx((1.0, 1.0))  # the oracle itself
    assert [each.chosen.interval for each in others] == [None, None]
    for each in _reached("sd", twice):
        assert each.chosen.interval[0] <= each.chosen.share <= each.chosen.interval[1]


def test_the_interval_is_of_the_share_where_answers_differ_in_length():
    longer = np.asarray([400, 20, 30, 40])
    rows = [
        _row(*names, tokens=longer if names == ("lookup", "long") else TOKENS) for names in TIMES
    ]
    every = _reached("sd", rows)[-1]
    assert every.chosen.interval[0] < every.chosen.share < every.chosen.interval[1]


def test_methods_that_a_task_lacks_take_no_part():
    rows = [row for row in _rows() if (row.method, row.task) != ("lookup", "short")]
    for each in _reached("sd", rows):
        assert each.single.candidate == SD
    with pytest.raises(rsd_jax.ConfigError, match="T = 1: lookup 4 has no row in every task"):
        _reached("lookup", rows)
    with pytest.raises(rsd_jax.ConfigError, match="T = 1: ar has no row in every task"):
        _reached("sd", rows[:-1])
    cold = [dataclasses.replace(row, temperature=0.5) for row in rows]
    with pytest.raises(rsd_jax.ConfigError, match=r"0\.5 was not calibrated"):
        reached(_calibration("sd"), cold, 0.5)
    with pytest.raises(rsd_jax.ConfigError, match="no row is of T = 1"):
        _reached("sd", cold)
    assert [each.chosen.ratio for each in _reached("ar", _rows())] == [1.0] * 3


def test_rows_that_cannot_be_compared():
    rows, calibration = _rows(), _calibration("sd")
    peer = dataclasses.replace(rows[0].decoding, blocks=None, token_rate_ratio=9.0)
    other = dataclasses.replace(rows[0], method="generate", verifier=None, decoding=peer)
    assert _reached("sd", [*rows, other]) == _reached("sd", rows)
    warm = dataclasses.replace(rows[2], draft_temperature=0.5)
    assert {each.oracle for each in _reached("sd", [*rows, warm])} == {SD, LOOKUP, None}
    for changes, message in (
        ({"pair": "another"}, "rows differ in pair: .* and 'another'"),
        ({"top_p": 0.9}, r"rows differ in top_p: 1\.0 and 0\.9"),
        ({"batch_size": 8}, "rows differ in batch_size"),
    ):
        mixed = [*rows, dataclasses.replace(rows[0], **changes)]
        with pytest.raises(rsd_jax.ConfigError, match=message):
            _reached("sd", mixed)
        with pytest.raises(rsd_jax.ConfigError, match=message):
            against(calibration, mixed)
    hardware = dataclasses.replace(LIKE.hardware, cpu="another CPU")
    for changes, message in (
        ({"top_p": 0.9}, r"has top_p=1\.0, the rows have 0\.9"),
        ({"weights_sha256": "cd" * 32}, "has weights='.*', the rows have 'cdcd"),
        ({"hardware": hardware}, "has hardware=.*synthetic.*, the rows have .*another CPU"),
    ):
        with pytest.raises(rsd_jax.ConfigError, match=message):
            _reached("sd", [dataclasses.replace(row, **changes) for row in rows])
    alone = dataclasses.replace(rows[0].decoding, token_rate_ratio=None)
    with pytest.raises(rsd_jax.ConfigError, match="beside autoregressive decoding"):
        _reached("sd", [dataclasses.replace(rows[0], decoding=alone)])


def test_candidates_in_words():
    assert Candidate("ar", "-", "").words == "ar"
    assert SD.words == "sd 4"
    assert Candidate("rsd_s", "4x4", "coupling").words == "rsd_s 4x4 coupling"
    assert Candidate("spectr", "2x2", "k_seq", 0.5, 10).words == (
        "spectr 2x2 draft T = 0.5 draft top-k 10"
    )
