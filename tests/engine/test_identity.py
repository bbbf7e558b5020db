"""Tokens do not depend on the method (T = 0), the batch, the order, the chunks or the steps."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rsd_jax
from rsd_jax.core import sampling
from rsd_jax.drafters import TREE_RULES, backbone, growth
from rsd_jax.engine import decoding, phases
from rsd_jax.engine.job import prepare, start
from rsd_jax.engine.request import Request
from rsd_jax.testing import arbiter
from rsd_jax.testing.tiny_llama import in_float64
from rsd_jax.verifiers import VERIFIERS, base
from tests import tiny
from tests.parts.first_layers_drafter import FirstLayersDrafter

# Shown in pytest's summary: a tie is reported, it does not fail the test.
pytestmark = pytest.mark.filterwarnings("default::rsd_jax.testing.arbiter.NumericalTieWarning")


def run(name: str, prompts=tiny.PROMPTS, **options) -> arbiter.Run:
    """A run with any models for `arbiter`, in batches of 4 by default."""
    options = {"max_new_tokens": tiny.NUM_TOKENS, "batch_size": 4} | tiny.skips(name) | options

    def decode(target, draft):
        return rsd_jax.generate(tiny.method(name), target, draft, prompts, **options)

    return decode


@functools.cache
def sampled(name: str) -> rsd_jax.GenerateResult:
    """The reference at T = 1."""
    return run(name)(*tiny.pair())


def assert_same(first: arbiter.Run, second: arbiter.Run) -> None:
    arbiter.assert_same(first, second, *tiny.pair(), tiny.PROMPTS, blocks=True)


def reordered(run: arbiter.Run, order) -> arbiter.Run:
    """The rows of a run in another order."""

    def decode(target, draft):
        result = run(target, draft)
        counts = dataclasses.replace(result.stats, blocks=result.stats.blocks[list(order)])
        tokens = [result.tokens[row] for row in order]
        return dataclasses.replace(result, tokens=tokens, stats=counts)

    return decode


@pytest.mark.parametrize("name", tiny.OF_EACH_DRAFTER[1:])  # the first is autoregressive
def test_greedy_equals_autoregressive(name):
    greedy = {"temperature": 0.0}
    result = arbiter.assert_same(
        run("ar", **greedy), run(name, **greedy), *tiny.pair(), tiny.PROMPTS
    )
    assert result.num_tokens.tolist() == [tiny.NUM_TOKENS] * len(tiny.PROMPTS)
    assert run(name, **greedy)(*tiny.pair()).stats.block_efficiency > 1.2


@pytest.mark.parametrize("name", tiny.WHOLE_TREES)
def test_greedy_self_pair_accepts_everything(name):
    target, _ = tiny.pair()
    stats = run(name, temperature=0.0)(target, target).stats
    assert (stats.blocks >= 5).all()
    drafter = tiny.method(name).drafter
    depth = getattr(drafter, "drawn", drafter).shape.depth  # a merged chain may go further
    accepted = stats.accepted_depths @ np.arange(stats.accepted_depths.shape[1])
    drafted = stats.drafted if name == "dynamic" else depth * stats.blocks
    assert (accepted >= drafted).all()


def test_the_first_layers_of_a_llama_draft_for_it():
    """A drafter from outside the package that skips sub-layers and reads the target's cache."""
    target, _ = tiny.pair()

    def decode(layers: int, temperature: float):
        drafter = FirstLayersDrafter(TREE_RULES["constant_branching"]((2, 2)), layers=layers)
        method = rsd_jax.Method("first layers", drafter, VERIFIERS["recursive_rejection"]())
        options = {"max_new_tokens": tiny.NUM_TOKENS, "temperature": temperature}
        return rsd_jax.generate(method, target, None, tiny.PROMPTS, **options)

    greedy = run("ar", temperature=0.0)(*tiny.pair())
    assert decode(1, 0.0).tokens == greedy.tokens
    whole = decode(2, 1.0).stats
    np.testing.assert_array_equal(whole.accepted_depths[:, -1], whole.blocks)


# tests/properties has all drafters and verifiers, in batches of one size.
@pytest.mark.parametrize(
    "name", [name for name in tiny.OF_EACH_DRAFTER if name not in ("ar", "dynamic")]
)
def test_a_row_does_not_depend_on_its_batch(name):
    order = (2, 0, 3, 1)
    shuffled = run(name, [tiny.PROMPTS[i] for i in order], request_ids=order)
    back = [order.index(i) for i in range(4)]
    assert_same(run(name), reordered(shuffled, back))
    for row, prompt in enumerate(tiny.PROMPTS):
        # A chain and a beam in batches of one, the others beside three rows of padding.
        size = 1 if name in ("sd", "rsd_s") else 4
        alone = run(name, [prompt], request_ids=[row], batch_size=size)
        assert_same(reordered(run(name), [row]), alone)


@pytest.mark.parametrize("name", tiny.OF_EACH_DRAFTER)
def test_chunks_and_their_padding_change_nothing(name):
    prompts = [*tiny.PROMPTS, [4, 4], [9]]  # the second batch is padded by two rows
    assert_same(run(name), reordered(run(name, prompts), range(4)))
    rest = run(name, prompts[4:], request_ids=[4, 5])
    assert_same(reordered(run(name, prompts), [4, 5]), rest)


@pytest.mark.parametrize("name", tiny.METHODS)
def test_stepping_by_one_block_changes_nothing(name):
    target, draft = tiny.pair()
    job = prepare(
        tiny.method(name),
        target,
        draft,
        Request.of(tiny.PROMPTS, max_new_tokens=tiny.NUM_TOKENS, **tiny.skips(name)),
    )
    state, steps = start(job, job.batches[0]), 0
    while not np.all(state.done):
        state = decoding.advance(
            job.engine, job.params, state, job.options, np.int32(1), decoding.UNLIMITED
        )
        steps += 1
    reference = sampled(name)
    state = jax.device_get(state.replace(row_keys=None))
    assert steps == reference.stats.blocks.max()
    assert len(set(reference.stats.blocks)) > 1 or name == "ar"  # rows waited for others, done
    np.testing.assert_array_equal(state.target_cache.length, state.length - 1)
    if name in tiny.DRAFTING:
        np.testing.assert_array_equal(state.drafter.cache.length, np.maximum(state.length - 2, 0))
    for row, tokens in enumerate(reference.tokens):
        first, end = len(tiny.PROMPTS[row]), int(state.end[row])
        assert state.tokens[row, first:end].tolist() == tokens
    np.testing.assert_array_equal(state.stats.blocks, reference.stats.blocks)


@pytest.mark.parametrize("blocks_per_step", [1, 5])
@pytest.mark.parametrize("name", ["ar", "rsd_s"])
def test_streaming_gives_the_same_tokens(name, blocks_per_step):
    options = {"max_new_tokens": tiny.NUM_TOKENS, "blocks_per_step": blocks_per_step}
    parts = [[] for _ in tiny.PROMPTS]
    for row, new in rsd_jax.stream(tiny.method(name), *tiny.pair(), tiny.PROMPTS, **options):
        assert new
        parts[row] += new
    assert parts == sampled(name).tokens


def test_request_ids_decide_the_draws():
    twins = run("rsd_c", [tiny.PROMPTS[2]] * 4, request_ids=[2, 7, 2, 2**31 - 1])(*tiny.pair())
    assert twins.tokens[0] == twins.tokens[2] == sampled("rsd_c").tokens[2]
    assert len({tuple(tokens) for tokens in twins.tokens}) == 3
    other = run("rsd_c", seed=1)(*tiny.pair())
    assert all(a != b for a, b in zip(other.tokens, sampled("rsd_c").tokens, strict=True))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("name", tiny.METHODS)
def test_every_program_can_be_traced_in_float64(name, temperature):
    with jax.enable_x64(True):
        target, draft = map(in_float64, tiny.pair())
        job = prepare(
            tiny.method(name),
            target,
            draft,
            Request.of(
                tiny.PROMPTS,
                max_new_tokens=4,
                temperature=temperature,
                top_k=5,
                top_p=0.9,
                **tiny.skips(name),
            ),
        )
        batch = job.batches[0]
        arrays = jax.tree.map(jnp.asarray, (job.seed, batch.prompts))
        state = jax.eval_shape(functools.partial(decoding.prefill, job.engine), job.params, *arrays)
        block = functools.partial(phases.block, job.engine)
        after = jax.eval_shape(block, job.params, state, job.options)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(
        lambda x: (x.shape, x.dtype), state
    )


@pytest.mark.parametrize("name", tiny.METHODS)
def test_every_draw_of_a_block_resolves_its_tail(name, monkeypatch):
    """Draft and verifier draw only by Gumbels of 64 bits."""
    draws, gumbels = [], sampling.gumbels

    def spy(keys, purpose, shape, *first):
        draws.append(purpose)
        return gumbels(keys, purpose, shape, *first)

    for module in (base, backbone, growth):
        monkeypatch.setattr(module, "gumbels", spy)
    for function in ("categorical", "gumbel", "uniform", "bits"):
        monkeypatch.delattr(jax.random, function)
    options = {"max_new_tokens": 4} | tiny.skips(name)
    job = prepare(tiny.method(name), *tiny.pair(), Request.of(tiny.PROMPTS, **options))
    batch = job.batches[0]
    arrays = jax.tree.map(jnp.asarray, (job.seed, batch.prompts))
    state = jax.eval_shape(functools.partial(decoding.prefill, job.engine), job.params, *arrays)
    jax.eval_shape(functools.partial(phases.block, job.engine), job.params, state, job.options)
    expected = [] if name in tiny.WITHOUT_MODEL else [sampling.Purpose.DRAFT]
    # A dynamic chain draws its first token outside of the loop, from the same stream.
    assert draws == [*expected * (1 + (name == "dynamic")), sampling.Purpose.EMIT]


def test_the_arbiter_runs_in_float64():
    with jax.enable_x64(True):
        wide = run("sd")(*map(in_float64, tiny.pair()))
    assert wide.tokens == sampled("sd").tokens


def test_the_arbiter_tells_a_tie_from_a_defect():
    def fake(dtype: str, tokens):
        """A run that gives other tokens if the target has `dtype`."""

        def decode(target, draft):
            right = sampled("sd")
            return (
                dataclasses.replace(right, tokens=tokens)
                if target.model.dtype in dtype
                else (right)
            )

        return decode

    right = sampled("sd").tokens
    wrong = [*right[:2], [*right[2][:6], (right[2][6] + 1) % 32, *right[2][7:]], right[3]]
    with pytest.warns(arbiter.NumericalTieWarning, match="row 2 differs at new token 6.*margin"):
        assert_same(fake("", wrong), fake("float32", wrong))
    with pytest.raises(AssertionError, match=r"row 2 differs at new token 6.*a defect"):
        assert_same(fake("", wrong), fake("float32 float64", wrong))
    found = arbiter.first_divergence(sampled("sd"), sampled("sd"), blocks=True)
    assert found is None
