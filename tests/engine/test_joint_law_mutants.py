"""Faults of the loop, detected by the joint law of whole outputs or by the independence of rows.

n >= 25 / TV^2: the 8192 samples of a run detect a TV of .055, four times as many a TV of .028.
"""

import numpy as np
import pytest

import rsd_jax
from rsd_jax.testing.joint_law import check_joint_law
from tests import joint_law
from tests.mutants import engine_mutants
from tests.mutants.state_mutants import TARGET_MUTANTS

FALSE_ALARM = 1e-6 / 100  # far fewer tests than that follow


def method(name: str) -> rsd_jax.Method:
    return joint_law.method(name)


def tokens_of(built: rsd_jax.Method, rounds: int = 1) -> np.ndarray:
    return np.asarray(joint_law.sample(built, rounds=rounds).tokens)


def law_holds(tokens: np.ndarray) -> bool:
    return joint_law.check(tokens[:, :5], false_alarm=FALSE_ALARM)[-1].passed


def test_clean_code_passes_the_same_checks():
    for name in ("ar", "sd", "self_rsd_c"):
        tokens = tokens_of(method(name))
        assert law_holds(tokens)
        assert rows_are_independent(tokens)


@pytest.mark.parametrize(("redraw", "rounds"), [("residual", 1), ("p", 4)])
def test_rows_cut_to_the_batch_minimum_and_redrawn(redraw, rounds):
    """The law of 5 tokens is off by a TV of about .3 and .07."""
    faulty = engine_mutants.batch_minimum(method("sd"), redraw)
    assert not law_holds(tokens_of(faulty, rounds))


def test_rows_merely_cut_to_the_batch_minimum():
    """This fault is lossless; block counts, which then depend on the batch, detect it."""
    target, draft = joint_law.pair()
    prompts = [list(joint_law.PROMPTS[2])] * 4

    def blocks(built, rows, group):
        if built is None:
            built = engine_mutants.batch_minimum(method("sd"), "accepted", group)
        run = rsd_jax.generate(built, target, draft, prompts[:rows], max_new_tokens=40)
        return run.stats.blocks[0]

    clean = method("sd")
    assert blocks(clean, 4, 4) == blocks(clean, 1, 1)
    assert blocks(None, 4, 4) > blocks(None, 1, 1)


def test_the_same_key_in_consecutive_blocks():
    """TV about .35."""
    with engine_mutants.same_key_in_consecutive_blocks():
        assert not law_holds(tokens_of(method("ar")))


@pytest.mark.parametrize("name", ["sibling visible", "first slots committed, not the path"])
def test_the_table_model_sees_masks_and_commits(name):
    target, draft = joint_law.pair()
    built = method("rsd_c")
    wrapper = TARGET_MUTANTS[name].target
    faulty = rsd_jax.LoadedModel(wrapper(target.model, built.drafter.shape), target.params)
    prompts = [joint_law.PROMPTS[row % 4] for row in range(joint_law.BATCH)]
    result = rsd_jax.generate(built, faulty, draft, prompts, max_new_tokens=5)
    assert not law_holds(np.asarray(result.tokens))


def test_the_target_pass_skips_too():
    """The output then follows the law of the model with skipped sub-layers; TV about .5."""
    with engine_mutants.skips_in_the_target_pass():
        assert not law_holds(tokens_of(method("self_rsd_c")))


def test_the_same_key_in_two_rows():
    """Each row still has the right law, but neighbouring rows are not independent."""
    with engine_mutants.same_key_in_two_rows():
        tokens = tokens_of(method("ar"))
    one_by_one = joint_law.check(tokens[:, :5], false_alarm=FALSE_ALARM)[:-1]
    assert all(check.passed for check in one_by_one)
    assert not rows_are_independent(tokens)


def rows_are_independent(tokens: np.ndarray, length: int = 2) -> bool:
    """Whether the first tokens of rows 2i and 2i + 1 have the product of their laws."""
    groups, laws = [], []
    count = len(joint_law.PROMPTS)
    for prompt in range(0, count, 2):
        first, second = tokens[prompt::count, :length], tokens[prompt + 1 :: count, :length]
        groups.append(np.concatenate([first, second], axis=1))
        pair = [joint_law.law(p, length) for p in (prompt, prompt + 1)]
        laws.append(np.multiply.outer(*pair))
    return check_joint_law(groups, laws, false_alarm=FALSE_ALARM).passed
