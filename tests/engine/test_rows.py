"""Rows that are done take the next prompt; a prompt's tokens do not depend on it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rsd_jax
from rsd_jax.engine import rows
from tests import tiny
from tests.compile_meter import compilations

PROMPTS = [*tiny.PROMPTS, [5, 6], [9] * 5, [1, 2, 3, 4], [31]]
LIMITS = [3, 20, 7, 9, 14, 2, 17, 11]
IN_ORDER = range(len(PROMPTS))
TOGETHER = 3


def _decode(name, chosen=IN_ORDER, run=rsd_jax.generate, **options):
    """Some of the prompts, each with its own request id and limit."""
    target, draft = tiny.pair()
    return run(
        tiny.method(name),
        target,
        draft if name in tiny.DRAFTING else None,
        [PROMPTS[i] for i in chosen],
        request_ids=list(chosen),
        max_new_tokens=[LIMITS[i] for i in chosen],
        batch_size=TOGETHER,
        **({"temperature": 0.7, "seed": 3} | tiny.skips(name) | options),
    )


def _without_refilling(name, **options):
    """The same prompts in calls in which no row is refilled."""
    calls = [IN_ORDER[first : first + TOGETHER] for first in IN_ORDER[::TOGETHER]]
    parts = [_decode(name, chosen, **options) for chosen in calls]
    stats = {
        field.name: np.concatenate([getattr(part.stats, field.name) for part in parts])
        for field in dataclasses.fields(parts[0].stats)
    }
    reasons = [reason for part in parts for reason in part.finish_reason]
    return [row for part in parts for row in part.tokens], reasons, stats


def _check(result, expected):
    tokens, reasons, stats = expected
    assert result.tokens == tokens
    assert result.finish_reason == reasons
    for name, counts in stats.items():
        np.testing.assert_array_equal(getattr(result.stats, name), counts, err_msg=name)


@pytest.fixture(scope="module", params=tiny.OF_EACH_DRAFTER)
def name(request):
    return request.param


@pytest.mark.parametrize("options", [{}, {"eos_id": [4, 17, 23]}], ids=["limits", "eos"])
def test_tokens_and_counts_do_not_depend_on_refilling(name, options):
    expected = _without_refilling(name, **options)
    if not options:
        assert [len(row) for row in expected[0]] == LIMITS
    else:
        assert {"eos", "length"} == set(expected[1])
    _check(_decode(name, **options), expected)


def test_a_stream_says_whose_tokens_they_are():
    answers, order = {}, []
    for index, new in _decode("rsd_c", run=rsd_jax.stream, blocks_per_step=2):
        answers[index] = [*answers.get(index, []), *new]
        order.append(index)
    assert [answers[index] for index in IN_ORDER] == _without_refilling("rsd_c")[0]
    assert order.index(3) < max(at for at, index in enumerate(order) if index == 1), (
        "prompt 3 starts while prompt 1, the longest, is decoded"
    )


def test_blocks_are_recorded_by_prompt():
    result = _decode("rsd_c", record_blocks=True)
    _check(result, _without_refilling("rsd_c"))
    for answer, blocks in zip(result.tokens, result.block_records, strict=True):
        assert [token for block in blocks for token in block.answer] == answer
        assert [block.block for block in blocks] == list(range(len(blocks)))


def test_a_longer_queue_compiles_nothing(monkeypatch):
    _decode("rsd_c", [0, 1, 2, 3])
    reads, read_state = [], rows.read_state
    monkeypatch.setattr(rows, "read_state", lambda *args: reads.append(0) or read_state(*args))
    with compilations() as programs:
        result = _decode("rsd_c", [7, 1, 4, 0, 6, 5, 2], temperature=1.3, seed=8)
    assert programs == []
    assert len(result.tokens) == 7
    assert 2 <= len(reads) <= 7, "at most one read per prompt"
    reads.clear()
    _decode("rsd_c", [6, 1, 4])
    assert len(reads) == 1, "one read, if no prompt waits"


KEPT = ("stats", "row_keys", "drafter", "target_cache", "limit", "prompt_length", "tokens")


@pytest.mark.parametrize("kept", KEPT)
def test_what_a_row_keeps_of_its_last_prompt_is_seen(kept, monkeypatch):
    """Mutants: a part of the state is not given to the new prompt."""
    refill = rows.refill

    def faulty(engine, params, seed, state, prompts):
        old = jax.tree.map(jnp.copy, getattr(state, kept))
        return dataclasses.replace(refill(engine, params, seed, state, prompts), **{kept: old})

    monkeypatch.setattr(rows, "refill", faulty)
    with pytest.raises(AssertionError):
        _check(_decode("rsd_c"), _without_refilling("rsd_c"))


def test_a_prompt_in_the_wrong_row_is_seen(monkeypatch):
    """Mutant: the prompt goes to the row after the one that is done."""
    refill = rows.refill

    def faulty(engine, params, seed, state, prompts):
        moved = jax.tree.map(lambda leaf: jnp.roll(leaf, 1, axis=0), prompts)
        return refill(engine, params, seed, state, moved)

    monkeypatch.setattr(rows, "refill", faulty)
    with pytest.raises(AssertionError):
        _check(_decode("rsd_c"), _without_refilling("rsd_c"))


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ([3, 4], "got 2 numbers as max_new_tokens for 8 prompts"),
        ([3, 0, *LIMITS[2:]], r"max_new_tokens\[1\]=0"),
        ([3, 2.5, *LIMITS[2:]], r"max_new_tokens\[1\]=2.5"),
        ([3, 4000, *LIMITS[2:]], "prompt 1 has 2 tokens; with max_new_tokens=4000"),
        ("8", "max_new_tokens='8'"),
    ],
)
def test_limits_that_cannot_be_used(limits, message):
    target, draft = tiny.pair()
    with pytest.raises(rsd_jax.ConfigError, match=message):
        rsd_jax.generate(tiny.method("sd"), target, draft, PROMPTS, max_new_tokens=limits)


def test_a_prompt_may_reach_the_last_position_though_another_asks_for_more():
    target, _ = tiny.pair()
    positions = target.model.max_positions
    prompts, limits = [[1] * (positions - 2), [2]], [2, 9]
    method = tiny.method("ar")
    result = rsd_jax.generate(method, target, None, prompts, max_new_tokens=limits)
    assert result.num_tokens.tolist() == limits
