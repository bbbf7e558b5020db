"""Keys, draws, the warp and the small numerics, each against an independent reference."""

import functools
import itertools
import math

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest

from rsd_jax.core import sampling
from rsd_jax.core.sampling import Purpose, block_keys, gumbels, row_keys, uniforms
from rsd_jax.core.threefry import key_words, random_words
from rsd_jax.core.warp import make_warp
from rsd_jax.errors import ConfigError
from rsd_jax.testing.statistics import chi_square, power

FALSE_ALARM = 1e-6
V = 4096

# Compiled whole: an operation at a time costs a compilation each.
argmax, is_law = jax.jit(sampling.argmax), jax.jit(sampling.is_law)
log1mexp, residual = jax.jit(sampling.log1mexp), jax.jit(sampling.residual)
truncated_gumbel = jax.jit(sampling.truncated_gumbel)
gumbel_top_k = jax.jit(sampling.gumbel_top_k, static_argnums=2)


# The warp, against Hugging Face's processors.


@jax.jit
def _warp(warp, logits):
    return warp(logits)


@functools.cache
def _logits() -> np.ndarray:
    """f32[40, V]: flat, peaked, with many ties, shifted far, and with few tokens left."""
    rng = np.random.default_rng(0)
    rows = [scale * rng.standard_normal((8, V)) for scale in (0.1, 1.0, 3.0, 10.0)]
    rounded = np.round(4.0 * rng.standard_normal((8, V))) / 4.0
    out = np.concatenate([*rows, rounded]).astype(np.float32)
    out[1::8] += 1000.0
    out[2::8, 100:] = -np.inf
    return out


def _hugging_face(logits: np.ndarray, temperature: float, top_k: int | None, top_p: float):
    """Filtered scores f64[B, V] of transformers' processors, in the order of transformers."""
    import torch
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    scores = torch.tensor(logits, dtype=torch.float64)
    steps = [TemperatureLogitsWarper(float(temperature))] if temperature != 1.0 else []
    steps += [TopKLogitsWarper(top_k)] if top_k is not None else []
    before = functools.reduce(lambda x, step: step(None, x), steps, scores)
    after = TopPLogitsWarper(top_p)(None, before) if top_p < 1.0 else before
    return before.numpy(), after.numpy()


def _log_softmax(x: np.ndarray) -> np.ndarray:
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def _near_the_edge(before: np.ndarray, top_p: float) -> np.ndarray:
    """bool[B, V]: tokens whose ascending mass is within float32 rounding of 1 - top_p."""
    probs = np.exp(_log_softmax(before))
    order = np.argsort(probs, axis=-1, kind="stable")
    mass = np.cumsum(np.take_along_axis(probs, order, -1), axis=-1)
    near = np.zeros(before.shape, bool)
    np.put_along_axis(near, order, np.abs(mass - (1.0 - top_p)) < 3e-6, -1)
    return near


@pytest.mark.parametrize(("use_top_k", "use_top_p"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_warp_is_hugging_faces(use_top_k, use_top_p):
    """Equal kept sets, up to float32 rounding at the edge, and log probabilities within 1e-5.

    One program serves all values. If tokens tie with the last token that top-p keeps, Hugging Face
    keeps some of them, by the order of its sort; we keep all.
    """
    logits, compared = _logits(), 0
    for temperature, top_k, top_p in itertools.product(
        (0.3, 1.0, 1.7),
        (1, 5, 50, 2 * V) if use_top_k else (None,),
        ((0.1, 0.9) if use_top_k else (1e-6, 0.1, 0.5, 0.9, 0.999)) if use_top_p else (1.0,),
    ):
        ours = np.asarray(_warp(make_warp(temperature, top_k, top_p), logits), np.float64)
        before, after = _hugging_face(logits, temperature, top_k, top_p)
        kept, expected = np.isfinite(ours), np.isfinite(after)
        assert (ours[~kept] == -np.inf).all()
        smallest = np.where(expected, after, np.inf).min(-1, keepdims=True)
        tied = (before == smallest) & (top_p < 1.0)
        assert (expected <= kept)[tied].all()
        settled = ~tied & ~_near_the_edge(before, top_p)
        np.testing.assert_array_equal(kept[settled], expected[settled])
        same = (kept == expected).all(-1)
        compared += same.mean()
        np.testing.assert_allclose(
            ours[same][kept[same]], _log_softmax(after)[same][kept[same]], atol=1e-5
        )
    assert compared > 1.0
    assert _warp._cache_size() <= 4


def test_warp_keeps_all_ties():
    logits = jnp.log(jnp.asarray([[0.4, 0.2, 0.2, 0.2], [0.25, 0.25, 0.25, 0.25]]))
    np.testing.assert_array_equal(
        np.isfinite(_warp(make_warp(1.0, top_k=2), logits)), np.ones((2, 4), bool)
    )
    # Ascending mass .2 and .4 would be dropped alone, but .6 of ties would not.
    np.testing.assert_array_equal(
        np.isfinite(_warp(make_warp(1.0, top_p=0.5), logits)), np.ones((2, 4), bool)
    )
    np.testing.assert_array_equal(
        np.isfinite(_warp(make_warp(1.0, top_p=0.4), logits)),
        [[True, False, False, False], [True] * 4],
    )


def test_warp_does_not_sort_and_costs_nothing_when_off():
    logits = jnp.zeros((40, V))
    both = _warp.lower(make_warp(0.7, 5, 0.9), logits).compile().as_text()
    assert "sort" not in both
    assert "while" in both
    loops = {
        warp: sum(
            str(jax.make_jaxpr(_warp)(make_warp(*warp), logits)).count(loop)
            for loop in ("scan[", "while[")
        )
        for warp in ((0.7,), (1.0, None, 1.0), (0.0, 5, 0.9), (0.7, 5), (0.7, 5, 0.9))
    }
    assert list(loops.values()) == [0, 0, 0, 1, 2]


def test_warp_is_stable_where_logits_are_large():
    logits = jnp.asarray([[3e38, 0.0, -3e38], [1e4, 1e4 - 1.0, -1e4]])
    laws = np.exp(np.asarray(_warp(make_warp(0.01), logits)))
    np.testing.assert_allclose(laws, [[1, 0, 0], [1, 0, 0]], atol=1e-6)
    laws = np.exp(np.asarray(_warp(make_warp(1.0), logits)))[1]
    np.testing.assert_allclose(laws, [1 / (1 + np.exp(-1)), 1 / (1 + np.e), 0.0], rtol=1e-6)


def test_greedy_warp_ranks_by_the_plain_softmax():
    logits = jnp.asarray([[1.0, 2.0, 0.5]])
    greedy = make_warp(0.0, top_k=1, top_p=0.1)
    np.testing.assert_allclose(greedy(logits), jax.nn.log_softmax(logits), atol=1e-6)


@pytest.mark.parametrize(
    "bad",
    [
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"temperature": 1.0, "top_k": 0},
        {"temperature": 1.0, "top_k": 2.0},
        {"temperature": 1.0, "top_p": 0.0},
        {"temperature": 1.0, "top_p": 1.1},
        {"temperature": 1.0, "top_p": float("nan")},
    ],
)
def test_warps_that_are_none(bad):
    with pytest.raises(ConfigError, match=list(bad)[-1]):
        make_warp(**bad)


def test_rows_that_are_no_law_are_flagged():
    bad = np.zeros((5, 8), np.float32)
    bad[1, 3] = np.nan
    bad[2] = -np.inf
    bad[3, 0] = np.inf
    bad[4, 1:] = -np.inf
    warps = (make_warp(0.7), make_warp(0.7, 3), make_warp(0.7, None, 0.5), make_warp(0.7, 3, 0.5))
    for warp in (*warps, make_warp(0.0)):
        np.testing.assert_array_equal(is_law(_warp(warp, bad)), [True, False, False, False, True])


# Keys and draws.


@functools.partial(jax.jit, static_argnames=("size",))
def _draws(seed, ids, blocks, size: int):
    """Per purpose, uniforms f32[B, size] and Gumbels f32[B, 4]."""
    keys = block_keys(row_keys(seed, ids), blocks)
    return {p: (uniforms(keys, p, size), gumbels(keys, p, (4,))) for p in Purpose}


def test_draws_depend_on_seed_request_block_purpose_and_index_alone():
    ids, blocks = np.asarray([5, 0, 5], np.int32), np.asarray([2, 2, 1], np.int32)
    draws = jax.device_get(_draws(3, ids, blocks, size=4))
    elsewhere = jax.device_get(_draws(3, ids[::-1].copy(), blocks[::-1].copy(), size=4))
    wider = jax.device_get(_draws(3, ids, blocks, size=6))
    for purpose in Purpose:
        for here, there in zip(draws[purpose], elsewhere[purpose], strict=True):
            np.testing.assert_array_equal(here, there[::-1])
        np.testing.assert_array_equal(draws[purpose][0], wider[purpose][0][:, :4])
    other_seed = jax.device_get(_draws(4, ids, blocks, size=4))
    every = np.concatenate([np.ravel(d[p][0]) for d in (draws, other_seed) for p in Purpose])
    assert len(np.unique(every)) == every.size


def _sees_dependence(draw_a: np.ndarray, draw_b: np.ndarray, bins: int = 4) -> bool:
    """Chi-square test of paired uniforms for independence; power .99 at TV .05."""
    samples = len(draw_a)
    assert power(0.05, samples, bins**2 - 1, false_alarm=FALSE_ALARM) > 0.99
    cell = np.floor(draw_a * bins) * bins + np.floor(draw_b * bins)
    counts = np.bincount(cell.astype(int), minlength=bins**2)
    return not chi_square(counts, np.full(bins**2, bins**-2.0), false_alarm=FALSE_ALARM).passed


def test_shared_keys_are_seen():
    """Rows, blocks, purposes and nodes draw independently; every shared key is detected."""
    rows = 20_000
    ids = np.arange(rows, dtype=np.int32)
    first, second = np.zeros(rows, np.int32), np.ones(rows, np.int32)

    def coins(ids, blocks, purpose=Purpose.ACCEPT):
        return np.asarray(_draws(0, ids, blocks, size=2)[purpose][0])

    right = coins(ids, first)
    others = {
        "same key in two rows": (coins(ids + rows, first), coins(ids, first)),
        "same key in consecutive blocks": (coins(ids, second), coins(ids, first)),
        "drafting and acceptance share a key": (coins(ids, first, Purpose.DRAFT), right),
        "acceptance and emission share a key": (coins(ids, first, Purpose.EMIT), right),
        "one uniform for all siblings": (right[:, ::-1], right),
    }
    for name, (independent, shared) in others.items():
        assert not _sees_dependence(right[:, 0], independent[:, 0]), name
        assert _sees_dependence(right[:, 0], shared[:, 0]), name


def test_keys_and_bits_are_those_of_jax():
    """The unrolled Threefry is JAX's function; keys are JAX's keys."""

    @jax.jit
    def both(seed, ids):
        ours = row_keys(seed, ids)
        key = jax.random.key(seed, impl="threefry2x32")
        theirs = jax.vmap(lambda request: jax.random.fold_in(key, request))(ids)
        words = random_words(key_words(ours), 7)
        counts = jnp.concatenate([jnp.zeros(7, jnp.uint32), jnp.arange(7, dtype=jnp.uint32)])
        bits = [jax.extend.random.threefry_2x32(k, counts) for k in jax.random.key_data(theirs)]
        return jax.random.key_data(ours), jax.random.key_data(theirs), words, jnp.stack(bits)

    ids = np.asarray([0, 5, 2**31 - 1], np.int32)
    ours, theirs, words, bits = jax.device_get(both(np.uint32(2**32 - 1), ids))
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(np.concatenate(words, axis=1), bits)


def _with_words(monkeypatch, high: list[int], low: list[int]):
    """The noise for given random words."""
    words = tuple(jnp.asarray([word], jnp.uint32) for word in (high, low))
    monkeypatch.setattr(sampling, "random_words", lambda key, size, first: words)
    keys = row_keys(0, jnp.arange(1))
    return gumbels(keys, Purpose.EMIT, (len(high),))[0], uniforms(keys, Purpose.EMIT, 1)[0]


def test_extreme_words_make_finite_noise(monkeypatch):
    """Every word gives a noise in (-3, 35) and a uniform below 1; neighbours differ in the tail."""
    ones = 2**32 - 1
    noise, uniform = _with_words(monkeypatch, [ones, 0, 0, 256], [ones, 0, 256, 0])
    assert float(uniform[0]) < 1.0
    assert np.isfinite(np.asarray(noise)).all()
    exact = [-math.log(-math.log1p(-u)) for u in (2.0**-49, 1.5 * 2.0**-48, 2.0**-24 + 2.0**-49)]
    np.testing.assert_allclose(np.asarray(noise[1:]), exact, rtol=1e-6)
    assert -3 < noise[0] < 0 < noise[1] < 35


def test_gumbels_follow_their_law():
    """Chi-square over 64 bins of equal mass; and no two of the largest are equal."""
    rows, size = 64, 4096
    noise = np.asarray(gumbels(row_keys(1, jnp.arange(rows)), Purpose.EMIT, (size,))).ravel()
    mass = np.exp(-np.exp(-noise.astype(np.float64)))
    counts = np.bincount(np.minimum((mass * 64).astype(int), 63), minlength=64)
    assert power(0.02, noise.size, 63, false_alarm=FALSE_ALARM) > 0.99
    assert chi_square(counts, np.full(64, 1 / 64), false_alarm=FALSE_ALARM).passed
    # About 2^10 of the 2^18: with a plain float32 uniform many would share a value.
    top = noise[noise > -np.log(-np.log1p(-(2.0**-8)))]
    assert len(np.unique(top)) > 0.999 * len(top)


def test_gumbel_top_k_is_a_sort():
    rng = np.random.default_rng(0)
    logprobs = np.log(rng.dirichlet(np.ones(7), (3, 2))).astype(np.float32)
    logprobs[0, 0, 2:] = -np.inf
    noise = rng.gumbel(size=logprobs.shape).astype(np.float32)
    order = np.argsort(-(logprobs + noise), axis=-1, kind="stable")
    for k in (1, 3, 7):
        values, tokens = gumbel_top_k(jnp.asarray(logprobs), jnp.asarray(noise), k)
        np.testing.assert_array_equal(
            values, np.take_along_axis(logprobs + noise, order, -1)[..., :k]
        )
        support = np.isfinite(np.asarray(values))
        np.testing.assert_array_equal(np.asarray(tokens)[support], order[..., :k][support])
        assert support[0, 0].sum() == min(k, 2)
        assert tokens.dtype == jnp.int32


def test_ties_go_to_the_lowest_id():
    flat = jnp.zeros((2, 5)).at[1, 0].set(-1.0)
    for k in (1, 3):
        _, tokens = gumbel_top_k(flat, None, k)
        np.testing.assert_array_equal(tokens, [list(range(k)), list(range(1, k + 1))])
    np.testing.assert_array_equal(argmax(flat), [0, 1])
    assert int(argmax(jnp.asarray([-jnp.inf, -jnp.inf, 0.0]))) == 2


# Numerics.


def test_log1mexp():
    x = -np.concatenate([np.logspace(-7, 2, 200), [0.6931471, 0.6931473]]).astype(np.float32)
    exact = x.astype(np.float64)
    exact = np.where(exact > -0.5, np.log(-np.expm1(exact)), np.log1p(-np.exp(exact)))
    np.testing.assert_allclose(log1mexp(jnp.asarray(x)), exact, rtol=3e-7, atol=1e-38)
    assert float(log1mexp(jnp.asarray(0.0))) == -np.inf


def _truncated_reference(g: np.ndarray, bound: np.ndarray) -> np.ndarray:
    """-log(exp(-bound) - exp(-max g) + exp(-g)) in extended precision, scaled by exp(-bound)."""
    g, bound = g.astype(np.longdouble), bound.astype(np.longdouble)
    largest = g.max(-1, keepdims=True)
    ratio = np.exp(bound - g) * -np.expm1(g - largest)
    return (bound - np.log1p(ratio)).astype(np.float64)


def test_truncated_gumbels_match_extended_precision():
    """At realistic scores (deep prefixes, tails) and at gaps from 1e-6 to 100."""
    rng = np.random.default_rng(0)
    for depth, scale in itertools.product((0.0, 20.0, 200.0), (1e-5, 1.0, 30.0)):
        g = (scale * rng.gumbel(size=(64, 9)) - depth).astype(np.float32)
        g = -np.sort(-g, axis=-1)
        bound = (rng.gumbel(size=(64, 1)) - depth).astype(np.float32)
        got = np.asarray(truncated_gumbel(jnp.asarray(g), jnp.asarray(g[:, :1]), bound))
        np.testing.assert_array_equal(got[:, 0], bound[:, 0])  # the largest becomes the bound
        assert (np.diff(got, axis=-1) <= 0).all()  # monotone
        exact = _truncated_reference(g, bound)
        np.testing.assert_allclose(got, exact, rtol=1e-6, atol=1e-5)


def test_truncated_gumbels_of_impossible_children():
    g = jnp.asarray([[1.0, -jnp.inf], [-jnp.inf, -jnp.inf], [1.0, 0.0]])
    bound = jnp.asarray([[0.5], [0.5], [-jnp.inf]])
    got = truncated_gumbel(g, g[:, :1], bound)
    np.testing.assert_array_equal(got, [[0.5, -np.inf], [-np.inf] * 2, [-np.inf] * 2])


def test_residual():
    r, q = jnp.asarray([0.5, 0.3, 0.2]), jnp.asarray([0.2, 0.2, 0.6])
    rest, mass = residual(r, q)
    np.testing.assert_allclose(rest, [0.75, 0.25, 0.0], rtol=1e-6)
    np.testing.assert_allclose(mass, [0.4], rtol=1e-6)
    rest, mass = residual(q, q)
    assert float(mass[0]) == 0.0
    assert np.isnan(np.asarray(rest)).all()
    assert np.isnan(np.asarray(residual(r.at[0].set(jnp.nan), q)[1])).all()
