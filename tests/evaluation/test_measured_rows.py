"""The cost of drafting in rows: what a block's draft passes are for each kind of drafter."""

import numpy as np
import pytest

import rsd_jax
from rsd_jax.evaluation.comparison import Measured
from rsd_jax.evaluation.measured_rows import bytes_ratio, decoding_parts
from tests import tiny

DRAFTED = {  # draft passes of each block; None where `drafted` does not stand in the row
    "ar": None,
    "lookup": 0,
    "sd": None,
    "rsd_s+3": 2,  # the merged chain makes the tree deeper than its passes
}


def _measured(method):
    target, draft = tiny.pair()
    result = rsd_jax.generate(method, target, draft, tiny.PROMPTS, max_new_tokens=16)
    return Measured(method, result.tokens, np.ones(len(result.tokens)), result.stats, 0.0)


_VARYING = {
    "dynamic": {"length": 4, "stop_below": 0.3},
    "dyspec": {"width": 2, "length": 4, "threshold": 0.4},
}


@pytest.mark.parametrize("name", [*DRAFTED, *_VARYING])
def test_the_draft_passes_of_a_method(name):
    varies = name in _VARYING
    method = rsd_jax.build_method(name, **_VARYING[name]) if varies else tiny.method(name)
    measured = _measured(method)
    (part,) = decoding_parts([measured], *tiny.pair())
    stats, r = measured.stats, bytes_ratio(*tiny.pair()).r
    blocks = int(stats.blocks.sum())
    if varies:
        passes = int(stats.drafted.sum())
        assert blocks < passes < 4 * blocks  # some trees are less deep, and some are not
        assert part.drafted == passes
    else:
        each = DRAFTED[name]
        assert part.drafted == (None if each is None else each * blocks)
        passes = blocks * {"ar": 0, "sd": 3}.get(name, each)
    assert part.bytes_ratio.r == r
    assert part.mbsu == pytest.approx(stats.produced.sum() / (blocks + r * passes))
    low, high = part.mbsu_interval
    assert low <= part.mbsu <= high


def test_unknown_passes_give_no_mbsu():
    method = rsd_jax.build_method("dynamic", length=3, lookup=2)
    (part,) = decoding_parts([_measured(method)], *tiny.pair())
    assert (part.drafted, part.mbsu) == (None, None)
