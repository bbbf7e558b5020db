"""Losses of a draft against a target: values, gradients, zeros, truncated targets, ranks.

Values are compared with plain numpy in float64. Gradients are compared with finite differences of
numpy's values or, where a definition stops gradients, with the definition.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsd_jax.distillation import losses
from rsd_jax.distillation.losses import BOUND, LOSSES, SIGMA_FLOOR
from rsd_jax.distillation.settings import TrainingSettings
from rsd_jax.distillation.training.step import Batch, abstract_state, train_step
from rsd_jax.distillation.truncated import TruncatedLogits, dense_logprobs, truncate
from rsd_jax.errors import ConfigError
from rsd_jax.models.config import LlamaConfig
from rsd_jax.models.llama import LlamaModel

B, Q, V = 2, 3, 11
_MODEL = LlamaModel(
    LlamaConfig(
        vocab_size=V,
        hidden_size=8,
        intermediate_size=8,
        num_layers=1,
        num_heads=1,
        num_kv_heads=1,
        head_dim=8,
        tied_embeddings=True,
    )
)
TEMPERATURES = (1.0, 0.3)

# Compiled whole: an operation at a time costs a compilation each.
_truncate = jax.jit(truncate, static_argnums=1)
_dense = jax.jit(lambda cut, temperature: dense_logprobs(cut, V, temperature=temperature))
_expected_acceptance = jax.jit(losses.expected_acceptance)


def _draw(seed: int, scale: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits f32[B, Q, V] of target and draft."""
    target, draft = scale * np.random.default_rng(seed).standard_normal((2, B, Q, V))
    return target.astype(np.float32), draft.astype(np.float32)


# The losses in float64.


def _log_law(logits: np.ndarray, temperature: float) -> np.ndarray:
    x = logits.astype(np.float64) / temperature
    x = x - x.max(-1, keepdims=True)
    with np.errstate(divide="ignore"):
        return x - np.log(np.exp(x).sum(-1, keepdims=True))


def _kl(log_p: np.ndarray, log_q: np.ndarray) -> np.ndarray:
    return (np.exp(log_p) * (log_p - log_q)).sum(-1)


def _acceptance(log_p: np.ndarray, log_q: np.ndarray) -> np.ndarray:
    return np.minimum(np.exp(log_p), np.exp(log_q)).sum(-1)


def _mixed(log_p, log_q, mix=None):
    """The mixed loss with the weight `mix`, by default the weight that follows from the laws."""
    tv = 1.0 - _acceptance(log_p, log_q)
    mix = np.exp(-3.0 * (1.0 - tv)) if mix is None else mix
    return mix * _kl(log_p, log_q) + (1.0 - mix) * tv


_REFERENCE = {
    "forward_kl": _kl,
    "reverse_kl": lambda log_p, log_q: _kl(log_q, log_p),
    "tvd": lambda log_p, log_q: 1.0 - _acceptance(log_p, log_q),
    "tvd_pp": lambda log_p, log_q: 1.0 - _acceptance(log_p, log_q),
    "lk": lambda log_p, log_q: -np.log(_acceptance(log_p, log_q)),
    "lk_mixed": _mixed,
}


def _differences(loss, target: np.ndarray, draft: np.ndarray, temperature: float) -> np.ndarray:
    """Central differences of sum(loss) in the draft's logits, f64[B, Q, V]."""
    log_p, step = _log_law(target, temperature), 1e-6
    slopes = np.zeros(draft.shape)
    for x in range(V):  # positions do not mix, so each gets its own difference at once
        bump = step * (np.arange(V) == x)
        above, below = draft.astype(np.float64) + bump, draft.astype(np.float64) - bump
        change = loss(log_p, _log_law(above, temperature))
        slopes[..., x] = (change - loss(log_p, _log_law(below, temperature))) / (2 * step)
    return slopes


def _tv_slope(log_p: np.ndarray, log_q: np.ndarray, reward: np.ndarray, temperature: float):
    """-E_{x ~ q}[reward(x) grad log q(x)], grad log q(x) being (onehot(x) - q) / T."""
    q = np.exp(log_q)
    return -q * (reward - (q * reward).sum(-1, keepdims=True)) / temperature


@functools.cache
def _compiled(name: str):
    """A loss and the gradient of its sum in the draft's logits."""

    def both(target, draft, temperature):
        def total(draft):
            values = LOSSES[name](target, draft, temperature=temperature)
            return values.sum(), values

        (_, values), slopes = jax.value_and_grad(total, has_aux=True)(draft)
        return values, slopes

    return jax.jit(both)


def _run(name, target, draft, temperature=1.0) -> tuple[np.ndarray, np.ndarray]:
    return jax.device_get(_compiled(name)(target, draft, temperature))


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("name", LOSSES)
def test_values(name, temperature):
    target, draft = _draw(0)
    values, _ = _run(name, target, draft, temperature)
    log_p, log_q = _log_law(target, temperature), _log_law(draft, temperature)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, _REFERENCE[name](log_p, log_q), rtol=2e-5, atol=1e-6)
    accepted = _expected_acceptance(target, draft, temperature=temperature)
    np.testing.assert_allclose(accepted, _acceptance(log_p, log_q), rtol=2e-5)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("name", LOSSES)
def test_gradients(name, temperature):
    target, draft = _draw(1)
    log_p, log_q = _log_law(target, temperature), _log_law(draft, temperature)
    reference = _REFERENCE[name]
    if name == "lk_mixed":  # its weight is a constant
        reference = functools.partial(_mixed, mix=np.exp(-3.0 * _acceptance(log_p, log_q)))
    expected = _differences(reference, target, draft, temperature)
    if name == "tvd_pp":
        reward = (log_p > log_q).astype(np.float64)
        # Before the rewards are standardised it is the gradient of total variation.
        raw = _tv_slope(log_p, log_q, reward, temperature)
        np.testing.assert_allclose(raw, expected, rtol=1e-5, atol=1e-8)
        mu = (np.exp(log_q) * reward).sum(-1).mean()
        sigma = np.sqrt((np.exp(log_q) * (reward - mu) ** 2).sum(-1).mean())
        expected = _tv_slope(log_p, log_q, (reward - mu) / sigma, temperature)
        np.testing.assert_allclose(expected, raw / sigma, rtol=1e-9, atol=1e-12)
        assert sigma == pytest.approx(np.sqrt(mu * (1.0 - mu)))
    _, slopes = _run(name, target, draft, temperature)
    np.testing.assert_allclose(slopes, expected, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_the_target_is_a_constant(name):
    target, draft = _draw(2)
    slopes = jax.jit(jax.grad(lambda t: LOSSES[name](t, draft).sum()))(target)
    np.testing.assert_array_equal(slopes, 0.0)


@pytest.mark.parametrize("name", LOSSES)
def test_equal_laws_are_a_fixed_point(name):
    """Loss and gradient are 0 at equal laws; only KL's gradient also becomes small near them."""
    target, _ = _draw(3)
    values, slopes = _run(name, target, target)
    np.testing.assert_allclose(values, 0.0, atol=1e-6)
    np.testing.assert_allclose(slopes, 0.0, atol=1e-6)
    noise = np.random.default_rng(4).standard_normal(target.shape).astype(np.float32)
    _, near = _run(name, target, target + 1e-3 * noise)
    if name in ("forward_kl", "reverse_kl"):
        assert np.abs(near).max() < 1e-3
    else:
        assert np.abs(near).max() > 0.05


def test_a_token_that_agrees_is_not_rewarded():
    """p(x) = q(x) exactly at all tokens but two, whose probabilities are exchanged."""
    target = np.zeros((B, Q, V), np.float32)
    target[..., 0] = 1.0
    draft = np.roll(target, 1, axis=-1)
    log_p, log_q = (np.asarray(jax.jit(losses.log_law)(x)) for x in (target, draft))
    np.testing.assert_array_equal(log_p[..., 2:], log_q[..., 2:])
    expected = _tv_slope(log_p, log_q, np.arange(V) == 0, 1.0)
    for name, scale in (("tvd", 1.0), ("lk", _acceptance(log_p, log_q)[..., None])):
        _, slopes = _run(name, target, draft)
        np.testing.assert_allclose(slopes, expected / scale, rtol=1e-5, atol=1e-7)


def test_constant_rewards_have_no_advantage():
    """sigma is 0 for equal laws, which have no reward, and small with few rewards in a batch."""
    target, _ = _draw(3)
    raised = target.copy()
    raised[..., 0] += 1e-5
    _, slopes = _run("tvd_pp", raised, target)
    _, plain = _run("tvd", raised, target)
    assert np.isfinite(slopes).all()
    assert (np.abs(slopes) <= np.abs(plain) / SIGMA_FLOOR + 1e-6).all()


def _point(token: int, height: float, rest: float = 0.0) -> np.ndarray:
    logits = np.full((B, Q, V), rest, np.float32)
    logits[..., token] = height
    return logits


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("name", LOSSES)
def test_zeros_are_harmless(name, temperature):
    """Probabilities of 0 in float32 and logits of -inf, in either law or both."""
    target, draft = _draw(5)
    masked = draft.copy()
    masked[..., ::2] = -np.inf
    odd = target.copy()
    odd[..., 1::2] = -np.inf
    cases = [
        (target, masked),
        (odd, draft),
        (odd, masked),
        (masked, masked),
        (target, target),
        (_point(0, 500.0), _point(1, 500.0)),
        (_point(0, 500.0), draft),
        (_point(0, 0.0, -np.inf), _point(1, 0.0, -np.inf)),
        (target, _point(1, 0.0, -np.inf)),
    ]
    for p, q in cases:
        values, slopes = _run(name, p, q, temperature)
        assert np.isfinite(values).all()
        assert np.isfinite(slopes).all()
        assert values.min() >= -1e-6
        assert values.max() <= BOUND + 1e-3
        assert (slopes[np.isneginf(q)] == 0.0).all()
    values, _ = _run(name, masked, masked, temperature)
    np.testing.assert_allclose(values, 0.0, atol=1e-6)


def test_lk_has_a_gradient_where_the_acceptance_is_zero_in_float32():
    target, draft = _point(0, 200.0), _point(1, 200.0)
    assert _expected_acceptance(target, draft).max() == 0.0
    values, slopes = _run("lk", target, draft)
    # The overlap is e^-200 at each of the V tokens; only token 0's is the draft's to raise.
    np.testing.assert_allclose(values, 200.0 - np.log(V), rtol=1e-6)
    np.testing.assert_allclose(slopes[..., 0], -1.0 / V, rtol=1e-4)
    values, slopes = _run("lk", _point(0, 0.0, -np.inf), _point(1, 0.0, -np.inf))
    np.testing.assert_allclose(values, BOUND - np.log(V), rtol=1e-6)
    np.testing.assert_array_equal(slopes, 0.0)


def test_bad_logits_are_seen():
    target, draft = _draw(6)
    for bad in (np.nan, -np.inf):
        broken = draft.copy()
        broken[0, 0] = bad
        for name in LOSSES:
            for pair in ((target, broken), (broken, draft)):
                values, _ = _run(name, *pair)
                assert np.isnan(values[0, 0])
                if name != "tvd_pp":  # whose moments are those of the batch
                    assert np.isfinite(values[1]).all()


# Truncated targets.


@pytest.mark.parametrize("name", LOSSES)
def test_truncation_to_everything_is_none(name):
    target, draft = _draw(7)
    whole = _truncate(target, V)
    np.testing.assert_array_equal(whole.log_rest, -np.inf)
    for temperature in TEMPERATURES:
        for got, expected in zip(
            _run(name, whole, draft, temperature),
            _run(name, target, draft, temperature),
            strict=True,
        ):
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=2e-6)


def _laws_given_the_rest(log_law: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mass of the rest f64[B, Q], and its law f64[B, Q, V], 0 at the tokens that were kept."""
    law = np.exp(log_law)
    np.put_along_axis(law, ids, 0.0, axis=-1)
    mass = law.sum(-1)
    return mass, law / mass[..., None]


def _kl_of_laws(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * np.log(np.where(a > 0, a, 1.0) / np.where(b > 0, b, 1.0))).sum(-1)


def test_what_truncation_costs_is_what_is_documented():
    target, draft = _draw(8)
    cut = _truncate(target, 4)
    assert cut.values.shape == cut.ids.shape == (B, Q, 4)
    assert cut.ids.dtype == jnp.int32
    log_p, log_q = _log_law(target, 1.0), _log_law(draft, 1.0)
    ids = np.asarray(cut.ids)
    np.testing.assert_array_equal(ids, np.argsort(-target, axis=-1, kind="stable")[..., :4])
    p_rest, p_inside = _laws_given_the_rest(log_p, ids)
    q_rest, q_inside = _laws_given_the_rest(log_q, ids)
    np.testing.assert_allclose(np.exp(cut.log_rest), p_rest, rtol=1e-5)
    gap = {name: _run(name, target, draft)[0] - _run(name, cut, draft)[0] for name in LOSSES}
    inside = np.minimum(p_rest[..., None] * p_inside, q_rest[..., None] * q_inside).sum(-1)
    lost = np.minimum(p_rest, q_rest) - inside
    assert (lost > 0.01).sum() > B * Q / 2  # or the test shows nothing
    for name in ("tvd", "tvd_pp"):
        np.testing.assert_allclose(gap[name], lost, rtol=1e-3, atol=1e-6)
    acceptance = _acceptance(log_p, log_q)
    np.testing.assert_allclose(gap["lk"], np.log1p(lost / acceptance), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(
        gap["forward_kl"], p_rest * _kl_of_laws(p_inside, q_inside), rtol=1e-3, atol=1e-5
    )
    np.testing.assert_allclose(
        gap["reverse_kl"], q_rest * _kl_of_laws(q_inside, p_inside), rtol=1e-3, atol=1e-5
    )


def test_temperature_takes_the_rest_to_be_uniform():
    target, draft = _draw(9)
    cut = _truncate(target, 5)
    p = np.exp(_log_law(target, 1.0))
    for temperature in (1.0, 0.3, 2.0):
        dense = np.exp(_dense(cut, temperature))
        np.testing.assert_allclose(dense.sum(-1), 1.0, rtol=1e-5)
        outside = np.ones(p.shape, bool)
        np.put_along_axis(outside, np.asarray(cut.ids), False, axis=-1)
        rest = np.where(outside, dense, 0.0).sum(-1)
        tempered = np.exp(_log_law(target, temperature))
        exact = np.where(outside, tempered, 0.0).sum(-1)
        if temperature == 1.0:
            np.testing.assert_allclose(rest, exact, rtol=1e-5)
            np.testing.assert_allclose(dense[~outside], p[~outside], rtol=1e-5)
            assert (0.5 * np.abs(dense - p).sum(-1) <= exact).all()
        else:
            assert (np.sign(exact - rest) == np.sign(1.0 - temperature)).all()
        if temperature < 1.0:  # the documented bound on the weights
            least = np.exp(np.asarray(cut.values))[..., -1]
            weights = np.where(outside, p ** (1 / temperature), 0.0).sum(-1)
            bound = np.where(outside, p, 0.0).sum(-1) * least ** (1 / temperature - 1)
            assert (weights <= bound).all()
        # The losses see the rest of that same law, as one outcome.
        q = np.exp(_log_law(draft, temperature))
        overlap = np.where(outside, 0.0, np.minimum(dense, q)).sum(-1)
        overlap += np.minimum(rest, np.where(outside, q, 0.0).sum(-1))
        values, _ = _run("tvd", cut, draft, temperature)
        np.testing.assert_allclose(values, 1.0 - overlap, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_truncated_zeros_are_harmless(name):
    """A target with fewer tokens than k, and a draft that excludes all of the rest."""
    target, draft = _draw(10)
    few = target.copy()
    few[..., 2:] = -np.inf
    inside = draft.copy()
    kept = np.asarray(_truncate(target, 4).ids)
    outside = np.ones(draft.shape, bool)
    np.put_along_axis(outside, kept, False, axis=-1)
    inside[outside] = -np.inf
    for p, q in ((few, draft), (target, inside), (few, inside)):
        values, slopes = _run(name, _truncate(p, 4), q)
        assert np.isfinite(values).all()
        assert np.isfinite(slopes).all()
        assert (slopes[np.isneginf(q)] == 0.0).all()
    cut = _truncate(few, 4)
    assert isinstance(cut, TruncatedLogits)
    np.testing.assert_array_equal(cut.log_rest, -np.inf)


@pytest.mark.standard_promotion  # optax
@pytest.mark.parametrize("objective", ["cross_entropy", *LOSSES])
def test_every_objective_can_be_trained(objective):
    """Objectives are only traced, not compiled; other tests check the training."""
    recipe = TrainingSettings(
        objective=objective, steps=2, batch_size=1, window=4, loss_temperature=0.5
    )
    state = abstract_state(_MODEL, recipe)
    batch = Batch(jax.ShapeDtypeStruct((1, 5), jnp.int32))
    teacher = (None, None) if objective == "cross_entropy" else (_MODEL, state.params)
    _, metrics = jax.eval_shape(
        functools.partial(train_step, _MODEL, teacher[0], recipe, None), state, teacher[1], batch
    )
    assert metrics["loss"].shape == ()
    with pytest.raises(ConfigError, match="loss_temperature=0"):
        TrainingSettings(objective=objective, steps=1, loss_temperature=0)


@pytest.mark.parametrize("name", LOSSES)
def test_an_id_without_mass_counts_once(name):
    """Unknown tokens of a draft share an id (`ResponseSource.with_ids`)."""
    logits = jnp.asarray([0.5, -1.0, 1.5, 0.2])

    def value(values, ids):
        law = TruncatedLogits(jnp.asarray(values), jnp.asarray(ids, jnp.int32), jnp.asarray(-0.7))
        return jax.value_and_grad(lambda x: LOSSES[name](law, x))(logits)

    none = -jnp.inf
    once, repeated = value([-0.7, none], [2, 0]), value([-0.7, none, none], [2, 0, 0])
    for ours, expected in zip(repeated, once, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-6)


def test_truncation_errors():
    for k, message in ((0, "k=0"), (V + 1, f"vocabulary, {V}"), (2.5, "k=2.5")):
        with pytest.raises(ConfigError, match=message):
            truncate(jnp.zeros((1, 1, V)), k)
