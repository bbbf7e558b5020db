"""The gain of refilled rows over whole batches."""

import numpy as np
import pytest

from rsd_jax.engine.request import Sampling
from rsd_jax.evaluation import refilling
from tests import tiny

_LIMITS = [4, 12, 4, 4, 4, 12, 4, 4]


def test_a_quarter_of_the_prompts_is_long():
    limits = refilling.mixed_limits(64, seed=1)
    assert sorted(limits) == [32] * 48 + [128] * 16
    assert limits != sorted(limits)
    assert limits == refilling.mixed_limits(64, seed=1)


@pytest.mark.parametrize(
    ("blocks", "rows", "gain", "in_order"),
    [
        ([4, 12, 4, 4, 4, 12, 4, 4], 2, (12 + 4 + 12 + 4) / 24, 32 / 24),
        ([4, 4, 4, 4], 2, 1.0, 1.0),
        ([1, 20, 1], 2, (20 + 1) / 20, 21 / 20),  # the longest prompt bounds the time
        ([1, 1, 6, 4], 2, (1 + 6) / 6, 7 / 7),  # 1 and 6 in one row, 1 and 4 in the other
    ],
)
def test_the_bounds_count_blocks(blocks, rows, gain, in_order):
    assert refilling.best_gain(np.asarray(blocks), rows) == pytest.approx(gain)
    assert refilling.gain_in_order(np.asarray(blocks), rows) == pytest.approx(in_order)


def test_both_ways_are_timed_and_shown(monkeypatch):
    def pretended(function, jobs):
        one_each = max(int(job.batches[0].prompts.max_new_tokens.max()) for job in jobs) == 1
        whole, refilled = (1.0, 1.2) if one_each else (3.0, 2.0)
        return function(jobs), whole if len(jobs) > 1 else refilled

    monkeypatch.setattr(refilling, "timed", pretended)
    target, _ = tiny.pair()
    (measured,) = refilling.time_refilling(
        [tiny.method("ar")],
        target,
        None,
        tiny.PROMPTS * 2,
        Sampling(max_new_tokens=1, temperature=0.7, eos_ids=(1, 2, 3)),
        _LIMITS,
        batch_size=3,
        repeats=3,
    )
    assert measured.tokens == sum(_LIMITS), "nothing ends a row early"
    assert measured.gain == pytest.approx(1.5)
    assert measured.bound == pytest.approx((12 + 12 + 4) / 16)
    (line,) = refilling.refilling_table([measured]).rows
    assert line == ["ar -", "16.0", "24.0", "1.50", "1.75", "1.40", "1.00, 1.20", "2.50", "0.56"]


def test_other_tokens_are_an_error(monkeypatch):
    decode = refilling.decode

    def faulty(job):
        result = decode(job)
        if len(job.batches) > 1:
            result.tokens[3][0] += 1
        return result

    monkeypatch.setattr(refilling, "decode", faulty)
    target, _ = tiny.pair()
    with pytest.raises(RuntimeError, match="ar -: refilled rows gave other tokens"):
        refilling.time_refilling(
            [tiny.method("ar")],
            target,
            None,
            tiny.PROMPTS * 2,
            Sampling(max_new_tokens=1),
            _LIMITS,
            batch_size=3,
            repeats=1,
        )
