"""The joint law of whole outputs equals the enumerated autoregressive law.

False alarms: every run makes 10 tests (each of 4 prompts and all together, of all 7 tokens and of
the first 5). Over all runs of this file the probability that any test of correct code fails is at
most ALPHA = 1e-6, by the union bound (in the chi-square limit; expected counts are at least 10).
Power: with 6144 samples per prompt a run finds, with probability 0.99, a joint law of 5 tokens that
is off by a total variation of TV_ONE for one prompt or TV_ALL over all prompts; asserted below.
"""

import numpy as np
import pytest

from rsd_jax.testing.statistics import power
from tests import joint_law

ALPHA = 1e-6
PER_RUN = 10
TV_ONE, TV_ALL = 0.14, 0.09

# Two compiled programs per method: filters off, filters on. A filter that should do nothing in
# the second is on with a value that keeps everything.
ALL = {"top_k": 3, "top_p": 1 - 1e-7}
RUNS = {
    "T=1": ({}, {}),
    "T=0.7": ({"temperature": 0.7}, {}),
    "draft T=0.5": (ALL, {"draft_temperature": 0.5}),
    "top-p": (ALL | {"top_p": 0.75}, {}),
    "top-k": (ALL | {"top_k": 2}, {}),
    "T=0.7, top-k, top-p": ({"temperature": 0.7, "top_k": 2, "top_p": 0.9}, {}),
    "draft top-k": (ALL, {"draft_top_k": 1}),
}
# All trees are warped by the same code; these have the filters together, and not one by one, so
# that one program is enough. Without filters test_conformance.py has them, at T = 1.
_FEW = {"static", "dynamic", "self_beam", "rsd_c+2", "dyspec", "mixed_beam", "self_rsd_c"}
_OF_FEW = {"draft T=0.5", "draft top-k", "T=0.7, top-k, top-p"}
CASES = [
    (method, None, run)
    for method in joint_law.METHODS
    for run, (_, draft) in RUNS.items()
    if (method != "ar" or not draft) and (method not in _FEW or run in _OF_FEW)
]
CASES += [
    (method, verifier, run)
    for method, verifier in (
        ("sd", "block"),
        ("spectr", "match"),
        ("spectr", "coupling"),
        ("rsd_c", "traversal"),
        ("rsd_s", "coupling"),
        ("swift", "coupling"),
    )
    for run in ("T=0.7, top-k, top-p", "draft top-k")
]
# Each program runs for seconds: with all optimisations it saves more than it costs to compile.
pytestmark = pytest.mark.usefixtures("full_optimisation")
FALSE_ALARM = ALPHA / (len(CASES) * PER_RUN)


def _id(value):
    return "own" if value is None else None


@pytest.mark.parametrize(("method", "verifier", "run"), CASES, ids=_id)
def test_joint_law_is_the_autoregressive_law(method, verifier, run):
    warp, draft = RUNS[run]
    options = {} if verifier is None else {"verifier": verifier}
    built = joint_law.method(method, **draft, **options)
    result = joint_law.sample(built, **warp)
    tokens = np.asarray(result.tokens)
    for length in (joint_law.NUM_TOKENS, 5):
        checks = joint_law.check(tokens[:, :length], false_alarm=FALSE_ALARM, **warp)
        assert all(check.passed for check in checks), (length, checks)
    rows = [len(tokens) // 4] * 4 + [len(tokens)]
    for check, samples, tv in zip(checks, rows, [TV_ONE] * 4 + [TV_ALL], strict=True):
        assert power(tv, samples, check.degrees, false_alarm=FALSE_ALARM) >= 0.99
    assert (result.stats.blocks >= 3).mean() >= 0.5  # two boundaries crossed
    if method != "ar":
        # Of two blocks accepted whole, one was not the last: the row went on after it.
        assert (result.stats.accepted_depths[:, -1] >= 2).mean() >= 0.2
    # Top-k may leave two tokens; if both are children, the second is certain once it is reached,
    # and verifiers that keep measures count it where rounding says otherwise.
    counts_certain = verifier in ("coupling", "traversal") and warp.get("top_k") == 2
    assert counts_certain or (result.stats.empty_residuals == 0).all()
