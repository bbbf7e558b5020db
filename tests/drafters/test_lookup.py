"""Lookup: what it proposes, and what it leaves alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rsd_jax
from rsd_jax.drafters.lookup import LookupDrafter
from rsd_jax.engine.methods import fits
from rsd_jax.errors import ConfigError
from rsd_jax.verifiers import VERIFIERS
from tests import tiny

_SIZE = 40


def _expected(text, length, longest, shortest):
    """The same in plain words: None, or the tokens."""
    best = None
    for end in range(len(text) - 1):
        shared = 0
        while shared < min(longest, end + 1) and text[end - shared] == text[-1 - shared]:
            shared += 1
        if shared >= shortest and (best is None or shared >= best[0]):
            best = shared, end
    if best is None:
        return None
    written = list(text)
    period = len(text) - 1 - best[1]
    for _ in range(length):
        written.append(written[len(written) - period])
    return written[len(text) :]


@pytest.mark.parametrize(("longest", "shortest"), [(1, 1), (3, 1), (4, 2), (8, 3)])
def test_it_proposes_what_followed_the_longest_and_latest_occurrence(longest, shortest):
    rng = np.random.default_rng(longest)
    drafter = LookupDrafter(length=5, longest=longest, shortest=shortest)
    look_up = jax.jit(drafter.look_up)
    found = 0
    for _ in range(300):
        text = rng.integers(0, 3, rng.integers(1, _SIZE - 2)).tolist()
        # What stands behind the text is of an earlier block, and must not be read.
        behind = rng.integers(0, 3, _SIZE - len(text))
        buffer = jnp.asarray([*text, *behind], jnp.int32)
        proposed, tokens = look_up(buffer, jnp.asarray(len(text), jnp.int32))
        expected = _expected(text, 5, longest, shortest)
        assert bool(proposed) == (expected is not None)
        if expected is not None:
            assert tokens.tolist() == expected
            found += 1
    assert found > 30


def test_without_an_occurrence_nothing_is_proposed():
    method = rsd_jax.build_method("lookup", length=6)
    assert method.drafter.pass_widths == (1, 7)  # the first holds a tree without a proposal
    target, _ = tiny.pair()
    result = rsd_jax.generate(
        method, target, None, [[3, 19, 4]], max_new_tokens=1, temperature=0.0, record_blocks=True
    )
    ((record,),) = result.block_records
    assert record.valid.tolist() == [True] + [False] * 6


def test_k_seq_is_refused_and_all_others_fit():
    drafter = LookupDrafter(length=3)
    assert [name for name, kind in VERIFIERS.items() if not fits(kind(), drafter)] == ["k_seq"]
    with pytest.raises(ConfigError, match="lossless only for"):
        rsd_jax.build_method("lookup", verifier="k_seq")


def test_bad_lengths():
    with pytest.raises(ConfigError, match="shortest=4 is above longest=3"):
        LookupDrafter(length=2, longest=3, shortest=4)
    with pytest.raises(ConfigError, match="length"):
        rsd_jax.build_method("lookup", length=0)
