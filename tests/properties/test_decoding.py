"""What holds for every decoding: properties, on requests that hypothesis draws.

The requests are the same in every run (`derandomize`). They compile nothing: all of them share the
programs of `setups.SETUPS`. RSD_JAX_PROPERTIES=N draws N times as many requests.
"""

import os

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rsd_jax.evaluation.divergence import first_divergences
from rsd_jax.verifiers import VERIFIERS
from tests import tiny
from tests.compile_meter import compilations
from tests.properties import setups
from tests.properties.queues import TOKENS, queues
from tests.properties.setups import AUTOREGRESSIVE, SETUPS

_EXAMPLES = 10 * int(os.environ.get("RSD_JAX_PROPERTIES", "1"))  # of each property and setup
_TIE = 1e-4
"""Logits that are nearer may be in another order in a pass of another width."""

_MASS = 1e-3
"""A law in float32 at a low temperature is known to less."""


_drawn = settings(
    max_examples=_EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def programs():
    """Compiles every program; receives the names of those that are compiled after that."""
    with compilations() as first:
        for setup in SETUPS:
            warps = {"temperature": 0.0 if setup.greedy else 0.8}
            warps |= {"top_p": 0.9} if setup.top_p else {}
            warps |= {"top_k": 5} if setup.top_k else {}
            prompts = [[1 + i] for i in range(2 * setup.batch + 1)]
            answers = setup.generate(prompts, max_new_tokens=setups.LARGEST_LIMIT, **warps).tokens
            setup.logits(prompts[0], answers[0])
            setup.stream(prompts, 1, max_new_tokens=2, **warps)
    loops = [name for name in first if "advance" in name]
    # Other files of tests in this process may have compiled some of them.
    assert len(loops) <= len(SETUPS) <= setups.MOST
    with compilations() as later:
        yield later


def on_queues(only=lambda setup: True):
    """Makes a test of a property of a setup and a queue, on drawn queues of the chosen setups."""

    def make(check):
        def test(programs, setup, data):
            check(setup, data.draw(queues(setup)), data.draw)
            assert programs == [], "a request compiled a program"

        test.__name__, test.__doc__ = check.__name__, check.__doc__  # draws depend on the name
        chosen = [setup for setup in SETUPS if only(setup)]
        return pytest.mark.parametrize("setup", chosen, ids=str)(
            _drawn(given(data=st.data())(test))
        )

    return make


def in_float(setup):
    """Whether the order of tokens by probability is known; bfloat16 has many ties."""
    return setup.dtype != "bfloat16"


def test_the_setups_have_every_part():
    assert {setup.method.partition("/")[0] for setup in SETUPS} == set(tiny.METHODS) - {"dyspec"}
    methods = [tiny.method(setup.method) for setup in SETUPS if setup.method != "ar"]
    assert {method.verifier_name for method in methods} == set(VERIFIERS)
    assert {setup.dtype for setup in SETUPS} == {"float32", "bfloat16", "float64"}


@on_queues()
def test_answers_end_where_they_have_to(setup, queue, draw):
    result = setup.generate(queue.prompts, **queue.options())
    assert result.num_tokens.tolist() == [len(answer) for answer in result.tokens]
    for answer, reason, limit in zip(
        result.tokens, result.finish_reason, queue.limits, strict=True
    ):
        assert 1 <= len(answer) <= limit
        assert all(type(token) is int and 0 <= token < setups.VOCAB_SIZE for token in answer)
        assert not set(answer[:-1]) & set(queue.ends)
        assert reason == ("eos" if answer[-1] in queue.ends else "length")
        assert reason == "eos" or len(answer) == limit


@on_queues()
def test_counts_fit_together(setup, queue, draw):
    result = setup.generate(queue.prompts, **queue.options())
    stats, depth = result.stats, result.stats.accepted_depths.shape[1] - 1
    accepted = stats.accepted_depths @ np.arange(depth + 1)
    np.testing.assert_array_equal(stats.accepted_depths.sum(axis=1), stats.blocks)
    np.testing.assert_array_equal(stats.accepted_ranks.sum(axis=1), accepted)
    assert (accepted <= stats.drafted).all()
    assert (stats.drafted <= depth * stats.blocks).all()
    whole = accepted + stats.blocks  # tokens of all blocks, before an EOS cuts the last
    if not queue.ends:
        np.testing.assert_array_equal(stats.produced, whole)
    assert (stats.produced <= whole).all()
    assert (whole - stats.produced <= depth).all()
    limits = np.asarray(queue.limits)
    np.testing.assert_array_equal(result.num_tokens, np.minimum(stats.produced, limits))
    assert (stats.produced - result.num_tokens <= depth).all(), "a block after the end"
    assert (stats.blocks >= 1).all()
    assert (stats.empty_residuals <= accepted).all()


@on_queues()
def test_a_row_depends_neither_on_its_neighbours_nor_on_its_place(setup, queue, draw):
    """A row alone, and in a queue in another order, in which other rows were there before it."""
    result = setup.generate(queue.prompts, **queue.options())
    order = draw(st.permutations(range(len(queue.prompts))))
    for chosen in (order, order[:1]):
        part = queue.chosen(chosen)
        again = setup.generate(part.prompts, **part.options())
        assert again.tokens == [result.tokens[i] for i in chosen]
        assert again.finish_reason == [result.finish_reason[i] for i in chosen]
        expected = jax.tree.map(lambda counts, at=chosen: counts[list(at)], vars(result.stats))
        jax.tree.map(np.testing.assert_array_equal, vars(again.stats), expected)


@on_queues()
def test_a_stream_is_the_same_tokens_in_parts(setup, queue, draw):
    answers = setup.stream(queue.prompts, draw(st.integers(1, 9)), **queue.options())
    assert answers == setup.generate(queue.prompts, **queue.options()).tokens


@on_queues()
def test_ends_and_limits_only_cut(setup, queue, draw):
    """Without an EOS and with larger limits, the same tokens come, and others after them."""
    short = setup.generate(queue.prompts, **queue.options())
    larger = [draw(st.integers(limit, setups.LARGEST_LIMIT)) for limit in queue.limits]
    long = setup.generate(queue.prompts, **queue.options(max_new_tokens=larger, eos_id=None))
    assert [len(answer) for answer in long.tokens] == larger
    for cut, answer, limit in zip(short.tokens, long.tokens, queue.limits, strict=True):
        ends = [i + 1 for i, token in enumerate(answer[:limit]) if token in queue.ends]
        assert cut == answer[: min(ends, default=limit)]


@on_queues(lambda setup: setup.greedy or setup.top_p or setup.top_k)
def test_the_likeliest_tokens_are_those_of_autoregressive_decoding(setup, queue, draw):
    """At T = 0, and where top-k or top-p leave only the likeliest token, whatever the method."""
    only = {name: least for name, least in (("top_k", 1), ("top_p", 1e-6)) if getattr(setup, name)}
    answers = setup.generate(queue.prompts, **queue.options(**only)).tokens
    for prompt, answer in zip(queue.prompts, answers, strict=True):
        logits = setup.logits(prompt, answer)
        taken = np.take_along_axis(logits, np.asarray(answer)[:, None], axis=1)[:, 0]
        assert (logits.max(axis=1) - taken <= (_TIE if in_float(setup) else 0.5)).all()
    if setup.dtype == "float32":
        greedy = queue.options(temperature=0.0, top_k=None, top_p=1.0)
        expected = AUTOREGRESSIVE.generate(queue.prompts, **greedy).tokens
        for found in first_divergences(expected, answers):
            logits = AUTOREGRESSIVE.logits(queue.prompts[found.row], expected[found.row])
            second, first = np.sort(logits[found.index])[-2:]
            assert first - second < _TIE, found


@on_queues(lambda setup: in_float(setup) and (setup.top_p or setup.top_k))
def test_no_filtered_token_comes(setup, queue, draw):
    """Top-k and top-p by their definitions, from logits of a pass over the finished text."""
    answers = setup.generate(queue.prompts, **queue.options()).tokens
    for prompt, answer in zip(queue.prompts, answers, strict=True):
        for logits, token in zip(setup.logits(prompt, answer), answer, strict=True):
            if setup.top_k:
                assert (logits > logits[token] + _TIE).sum() < queue.shared["top_k"]
                continue
            law = np.exp((logits - logits.max()) / queue.shared["temperature"])
            law /= law.sum()
            tail = law[law <= law[token] * (1 + _MASS)].sum()
            assert tail > 1 - queue.shared["top_p"] - _MASS


@on_queues(lambda setup: setup.records)
def test_records_are_what_happened(setup, queue, draw):
    result = setup.generate(queue.prompts, **queue.options())
    temperature, top_p = queue.shared["temperature"], queue.shared.get("top_p", 1.0)
    for prompt, answer, blocks, count in zip(
        queue.prompts, result.tokens, result.block_records, result.stats.blocks, strict=True
    ):
        assert [block.block for block in blocks] == list(range(count))
        assert [token for block in blocks for token in block.answer] == answer
        logits = setup.logits(prompt, answer)
        for block in blocks:
            children = np.flatnonzero(block.valid)[1:]
            assert (block.draft_probs[children] > 0).all()
            assert (block.drawn_probs[children] >= block.draft_probs[children] * 0.999).all()
            probs = [*block.target_probs[block.path], block.emitted_prob][: block.kept]
            assert all(0 < prob <= 1 + 1e-5 for prob in probs)
            if top_p < 1:
                continue
            for at, prob in enumerate(probs, start=block.start):
                law = np.exp((logits[at] - logits[at].max()) / temperature)
                np.testing.assert_allclose(prob, law[answer[at]] / law.sum(), rtol=1e-2, atol=1e-6)


@on_queues(lambda setup: not setup.greedy)
def test_seeds_and_request_ids_decide(setup, queue, draw):
    """Rows of one seed and request id are equal, rows of others are not all equal."""
    prompt, size = draw(st.lists(TOKENS, min_size=1, max_size=4)), setup.batch + 1
    ids = draw(st.lists(st.integers(0, 2**31 - 1), min_size=size, max_size=size, unique=True))
    wide = {"temperature": 8.0, "eos_id": None, "max_new_tokens": 10}
    wide |= {"top_p": 0.999} if setup.top_p else {}
    wide |= {"top_k": setups.VOCAB_SIZE} if setup.top_k else {}

    def answers(ids, **options):
        given = queue.options(request_ids=ids, **wide | options)
        return setup.generate([prompt] * len(ids), **given).tokens

    found = answers(ids)
    assert answers(ids) == found
    assert len(set(map(tuple, found))) > 1
    assert set(map(tuple, answers(ids[:1] * size))) == {tuple(found[0])}
    assert answers(ids, seed=queue.shared["seed"] ^ 1) != found
