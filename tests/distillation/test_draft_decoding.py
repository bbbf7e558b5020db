"""Measured block efficiency against counts made by hand; answers; acceptance window by window."""

import dataclasses
import json
import math

import jax
import numpy as np
import pytest

from rsd_jax.core.types import LoadedModel
from rsd_jax.distillation.data.tokenizer import BOS_ID, train_tokenizer
from rsd_jax.distillation.draft_decoding import (
    ALL_TASKS,
    DecodedRow,
    measure_decoding,
    ratio_interval,
)
from rsd_jax.distillation.evaluate import (
    SIMULATED,
    TEMPERATURES,
    evaluate,
    evaluate_windows,
)
from rsd_jax.engine.generation import generate
from rsd_jax.engine.methods import build_method
from rsd_jax.engine.request import Sampling
from rsd_jax.errors import ConfigError
from rsd_jax.evaluation import comparison
from rsd_jax.evaluation.prompts import greedy_answers, token_ids
from rsd_jax.models.llama import LlamaModel
from rsd_jax.records import metrics
from rsd_jax.tasks.base import Task
from rsd_jax.tasks.prompts import Prompt
from rsd_jax.testing.tiny_llama import TINY_CONFIG, tiny_pair, tiny_params
from tests import tiny

_SD = tiny.method("sd")
_LENGTH = tiny.METHODS["sd"]["length"]
_TASKS = {"short": tiny.PROMPTS[:2] * 2, "long": tiny.PROMPTS[2:] * 2}
_LIMIT = 10


def _measure(draft=None, **options) -> list[DecodedRow]:
    """The tiny pair, or its target with another draft; all calls share their programs."""
    target, near = tiny.pair()
    tasks, methods = options.pop("tasks", _TASKS), options.pop("methods", {"sd_3": _SD})
    sampling = Sampling(**{"max_new_tokens": _LIMIT, "seed": 5} | options)
    return measure_decoding(target, draft or near, tasks, methods, sampling, batch_size=4)


@pytest.fixture(scope="module")
def near_rows():
    return _measure()


@pytest.fixture(scope="module")
def same_rows():
    """The draft is the target."""
    return _measure(tiny_pair(share=0.0)[1])


def test_a_draft_that_is_the_target(same_rows):
    """Every block yields L + 1 tokens; the last block counts whole."""
    blocks = math.ceil(_LIMIT / (_LENGTH + 1))
    for row, prompts in zip(same_rows, (4, 4, 8), strict=True):
        assert row.block_efficiency == _LENGTH + 1
        assert row.block_efficiency_interval == (_LENGTH + 1, _LENGTH + 1)
        assert row.blocks_by_prompt == (blocks,) * prompts
        assert row.produced_by_prompt == (blocks * (_LENGTH + 1),) * prompts
        assert (row.num_prompts, row.tokens) == (prompts, prompts * _LIMIT)


def test_counts_end_with_eos():
    """If the draft equals the target, the tokens up to the end of a block give the counts.

    The limit is inside the third block, which counts whole except for tokens after an EOS.
    """
    target, same = tiny_pair(share=0.0)
    prompts, eos, size = [*_TASKS["short"], *_TASKS["long"]], [4, 9], _LENGTH + 1
    third = 3 * size
    assert third - size < _LIMIT < third
    written = generate(
        _SD, target, same, prompts, max_new_tokens=third, seed=5, batch_size=4, eos_id=eos
    ).tokens
    lengths = [len(tokens) for tokens in written]
    assert min(lengths) < _LIMIT < max(lengths) == third
    assert any(length % size for length in lengths)
    row = _measure(same, eos_ids=eos)[-1]
    assert row.produced_by_prompt == tuple(lengths)
    assert row.blocks_by_prompt == tuple(math.ceil(length / size) for length in lengths)
    assert row.tokens == sum(min(length, _LIMIT) for length in lengths)
    assert row.block_efficiency == sum(lengths) / sum(row.blocks_by_prompt) < size


def test_rows_are_sums_over_prompts(near_rows):
    """Sums over calls with one prompt each; request ids are indices among all tasks' prompts."""
    target, draft = tiny.pair()
    alone = [
        generate(
            _SD,
            target,
            draft,
            [prompt],
            max_new_tokens=_LIMIT,
            seed=5,
            batch_size=4,
            request_ids=[place],
        ).stats
        for place, prompt in enumerate([*_TASKS["short"], *_TASKS["long"]])
    ]
    produced, blocks = ([int(getattr(s, n)[0]) for s in alone] for n in ("produced", "blocks"))
    parts = {"short": slice(0, 4), "long": slice(4, 8), ALL_TASKS: slice(0, 8)}
    assert [(row.task, row.method) for row in near_rows] == [(task, "sd_3") for task in parts]
    for row, part in zip(near_rows, parts.values(), strict=True):
        assert row.produced_by_prompt == tuple(produced[part])
        assert row.blocks_by_prompt == tuple(blocks[part])
        assert (row.produced, row.blocks) == (sum(produced[part]), sum(blocks[part]))
        assert row.block_efficiency == sum(produced[part]) / sum(blocks[part])
        assert 1 < row.block_efficiency < _LENGTH + 1
        low, high = row.block_efficiency_interval
        assert 1 <= low < row.block_efficiency < high <= _LENGTH + 1
        assert (row.temperature, row.max_new_tokens, row.seed) == (1.0, _LIMIT, 5)
    assert len({row.prompts_sha256 for row in near_rows}) == 3
    colder = _measure(temperature=0.3)[-1]
    assert colder.temperature == 0.3
    assert colder.produced_by_prompt != near_rows[-1].produced_by_prompt


def test_methods_go_by_the_names_they_are_given():
    rows = _measure(methods={"chain": _SD, "none": build_method("ar")})
    assert [row.method for row in rows] == ["chain"] * 3 + ["none"] * 3
    assert [row.task for row in rows] == ["short", "long", ALL_TASKS] * 2
    for row in rows[3:]:
        assert row.block_efficiency_interval == (row.block_efficiency, 1.0) == (1.0, 1.0)
        assert row.blocks == row.produced == row.tokens == row.num_prompts * _LIMIT
    # The name aside, a row is the same whatever is measured beside it.
    assert [dataclasses.replace(row, method="sd_3") for row in rows[:3]] == _measure()


def test_ratios_are_paired(near_rows, same_rows):
    for near, same in zip(near_rows, same_rows, strict=True):
        assert ratio_interval(near, near) == (1.0, 1.0)
        low, high = ratio_interval(near, same)
        assert low < near.block_efficiency / same.block_efficiency < high <= 1
        # `same` is the same on every prompt, so all that varies is `near`.
        ends = np.asarray(near.block_efficiency_interval) / same.block_efficiency
        assert (low, high) == pytest.approx(tuple(ends))
        assert ratio_interval(same, near) == pytest.approx((1 / high, 1 / low), rel=1e-3)


def test_rows_are_json(near_rows, same_rows):
    lines = [json.dumps(dataclasses.asdict(row), allow_nan=False) for row in near_rows]
    read = [DecodedRow(**json.loads(line)) for line in lines]
    assert [json.dumps(dataclasses.asdict(row)) for row in read] == lines
    assert ratio_interval(read[2], same_rows[2]) == ratio_interval(near_rows[2], same_rows[2])


def test_what_cannot_be_measured_or_compared_is_named(near_rows, monkeypatch):
    with pytest.raises(ConfigError, match="prompts_sha256"):
        ratio_interval(near_rows[0], near_rows[1])
    for name, value in {"temperature": 0.5, "max_new_tokens": 3, "seed": 6}.items():
        with pytest.raises(ConfigError, match=f"{name} is"):
            ratio_interval(near_rows[0], dataclasses.replace(near_rows[0], **{name: value}))
    monkeypatch.setattr(comparison, "decode", lambda *_, **__: pytest.fail("decoded"))
    for options, message in (
        ({"methods": {}}, "at least one method"),
        ({"tasks": {}}, "prompts of one task"),
        ({"tasks": _TASKS | {"none": []}}, "'none' has no prompts"),
        ({"tasks": _TASKS | {ALL_TASKS: [[1]]}}, "a task cannot be called 'all'"),
        ({"tasks": _TASKS | {"bad": [[99]]}}, "holds token id 99"),
        ({"eos_ids": (99,)}, "eos_id 99"),
        ({"temperature": -1.0}, "temperature"),
    ):
        with pytest.raises(ConfigError, match=message):
            _measure(**options)


_TEXTS = ("def a", "b</s>", "return ")


def _task(stop: str | None) -> Task:
    prompts = [Prompt(str(i), text, " c") for i, text in enumerate(_TEXTS)]
    return Task("letters", "bleu", stop, max_new_tokens=12, first=lambda count: prompts[:count])


def test_answers():
    """EOS and text after the task's stop string are not part of an answer."""
    tokenizer = train_tokenizer(["a b c"], vocab_size=258)
    model = LlamaModel(dataclasses.replace(TINY_CONFIG, vocab_size=258))
    target = LoadedModel(model, tiny_params(3, model.config))
    prompts = token_ids(_task(None).test_prompts(3), tokenizer)
    assert all(ids[0] == BOS_ID and min(ids[1:]) > 1 for ids in prompts)
    assert [tokenizer.decode(ids) for ids in prompts] == list(_TEXTS)
    written = generate(
        build_method("ar"), target, None, prompts, max_new_tokens=12, temperature=0.0
    ).tokens
    texts = [tokenizer.decode(tokens) for tokens in written]

    def answers(stop=None, count=3, limit=12, eos_ids=()):
        sampling = Sampling(max_new_tokens=limit, temperature=0.0, eos_ids=eos_ids)
        texts = greedy_answers(target, tokenizer, prompts[:count], sampling, None)
        return [_task(stop).answer(text) for text in texts]

    assert answers() == texts
    assert answers(count=2) == texts[:2]
    shorter = [tokenizer.decode(tokens[:5]) for tokens in written]
    assert answers(limit=5) == shorter
    stop = next(c for c in texts[0][4:] if c not in texts[0][:4].lstrip() and not c.isspace())
    expected = [text.lstrip().partition(stop)[0].strip() for text in texts]
    assert 0 < len(expected[0]) < len(texts[0].strip())
    assert answers(stop) == expected
    assert [_task(stop).answer(answer) for answer in expected] == expected
    # A token that is no special one ends answers as well, and is not in them.
    end = next(t for t in written[0][3:] if t not in written[0][:3] and t > 1)
    cut = [tokens[: [*tokens, end].index(end)] for tokens in written]
    expected = [tokenizer.decode(tokens) for tokens in cut]
    assert len(cut[0]) >= 3
    assert answers(eos_ids=(end,)) == expected


def test_acceptance_by_window():
    """Acceptance of all windows that are not left out, in order, against numpy."""
    target, draft = tiny.pair()
    rng = np.random.default_rng(0)
    windows = rng.integers(2, TINY_CONFIG.vocab_size, (5, 9)).astype(np.int32)
    teacher = (target.model, target.params)
    means, by_window = evaluate_windows(
        draft.model, draft.params, windows, teacher=teacher, batch_size=2
    )
    assert means == evaluate(draft.model, draft.params, windows, teacher=teacher, batch_size=2)
    logits = [
        np.asarray(jax.jit(pair.model.score)(pair.params, windows[:4, :-1]), np.float64)
        for pair in (target, draft)
    ]
    for t in TEMPERATURES:
        p, q = (np.exp(x / t) / np.exp(x / t).sum(-1, keepdims=True) for x in logits)
        values = by_window[f"acceptance_t{t:g}"]
        np.testing.assert_allclose(values, np.minimum(p, q).sum(-1).mean(-1), rtol=1e-4)
        assert values.mean() == pytest.approx(means[f"acceptance_t{t:g}"], rel=1e-6)
        low, high = metrics.bootstrap_interval(values, np.ones_like(values))
        assert low < values.mean() < high
    log_q = logits[1] - np.log(np.exp(logits[1]).sum(-1, keepdims=True))
    loss = -np.take_along_axis(log_q, windows[:4, 1:, None], -1)[..., 0].mean(-1)
    simulated = {f"block_efficiency_t{t:g}_{name}" for t in TEMPERATURES for name in SIMULATED}
    assert set(by_window) == {"loss", "forward_kl", "acceptance_t1", "acceptance_t0.3"} | simulated
    np.testing.assert_allclose(by_window["loss"], loss, rtol=1e-4)
    assert by_window["forward_kl"].mean() == pytest.approx(means["forward_kl"], rel=1e-5)
    _, alone = evaluate_windows(draft.model, draft.params, windows, batch_size=2)
    assert list(alone) == ["loss"]
    np.testing.assert_allclose(alone["loss"], loss, rtol=1e-4)
