"""What a choice reaches of the best fixed structure of each task, against hand-made rows."""

import dataclasses

import numpy as np
import pytest

import rsd_jax
from rsd_jax.planning import Calibration, Conditions, Expected, reached
from rsd_jax.planning.oracle import ALL
from rsd_jax.records.decoding import Decoding
from rsd_jax.records.hardware import Hardware
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
VERIFIER = "recursive_rejection"


def _row(method, task, *, slower=1.0, calls=True, **changes):
    seconds = TOKENS * AR_SECONDS[task] * np.asarray(TIMES[method, task]) * slower
    base_rate = 1 / (AR_SECONDS[task] * slower)
    rate = TOKENS.sum() / seconds.sum()
    part = Decoding(
        num_prompts=4,
        tokens=100,
        seconds=seconds.sum(),
        prefill_timed=True,
        token_rate=rate,
        token_rate_ratio=rate / base_rate,
        produced=100,
        blocks=50,
        call_tokens=TOKENS.tolist() if calls else None,
        call_seconds=seconds.tolist() if calls else None,
    )
    (like,) = synthetic_rows.experiment1(synthetic_rows.PANELS[:1], lengths=())
    named = {"method": method, "tree": "-" if method == "ar" else "4", "verifier": VERIFIER}
    return dataclasses.replace(like, decoding=part, task=task, temperature=1.0, **named | changes)


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
        vocab_size=8,
        dtype="float32",
        hardware=Hardware.current(),
        prompts=1,
        prompts_sha256="",
        max_new_tokens=8,
    )
    return Calibration(conditions=conditions, expected=tuple(map(entry, ("ar", "sd", "lookup"))))


def test_the_choice_and_the_best_single_structure_beside_the_oracle():
    short, long, every = reached(_calibration("sd"), _rows())
    assert (short.task, long.task, every.task) == ("short", "long", ALL)
    assert short.oracle == short.chosen.structure == ("sd", "4", VERIFIER)
    assert (short.oracle_ratio, short.chosen.share) == pytest.approx((2.0, 1.0))
    assert long.oracle == long.single.structure == ("lookup", "4", VERIFIER)
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
    assert every.single.structure == ("lookup", "4", VERIFIER)
    assert every.single.ratio == pytest.approx(40 / (10 * 0.8 + 30 / fast))
    assert every.chosen.interval[0] < every.chosen.share < every.chosen.interval[1]


def test_rows_of_several_runs_become_alike():
    at_once = reached(_calibration("sd"), _rows())
    slower = [_row(*n, slower=3.0 if n[0] == "lookup" else 1.0) for n in TIMES]
    for one, other in zip(at_once, reached(_calibration("sd"), slower), strict=True):
        assert other.oracle == one.oracle
        for name in ("chosen", "single"):
            ours, theirs = getattr(one, name), getattr(other, name)
            assert theirs.share == pytest.approx(ours.share)
            assert theirs.interval == pytest.approx(ours.interval)
    assert [each.chosen.interval for each in reached(_calibration("sd"), _rows(calls=False))] == [
        None
    ] * 3


def test_structures_that_a_task_lacks_take_no_part():
    rows = [row for row in _rows() if (row.method, row.task) != ("lookup", "short")]
    for each in reached(_calibration("sd"), rows):
        assert each.single.structure == ("sd", "4", VERIFIER)
    with pytest.raises(rsd_jax.ConfigError, match="T = 1: lookup 4 has no row in every task"):
        reached(_calibration("lookup"), rows)
    with pytest.raises(rsd_jax.ConfigError, match="T = 1: ar has no row in every task"):
        reached(_calibration("sd"), rows[:-1])
    with pytest.raises(rsd_jax.ConfigError, match=r"0\.5 was not calibrated"):
        reached(_calibration("sd"), [dataclasses.replace(r, temperature=0.5) for r in rows])
    assert [each.chosen.ratio for each in reached(_calibration("ar"), _rows())] == [1.0] * 3
