"""Products of few rows: equal to plain ones, and compiled as meant."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsd_jax.models import products

_WIDTH = 576
_ROWS = [(1, 1), (1, 2), (1, 3), (1, 5), (5, 1), (7, 1), (1, 8), (2, 4)]


def _dense(features: int, dtype=jnp.float32) -> nn.Dense:
    return nn.Dense(features, use_bias=False, dtype=dtype, dot_general=products.dot_general)


def _problem(shape: tuple[int, ...], width: int, features: int, dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(0))
    x = jax.random.normal(keys[0], (*shape, width), dtype)
    kernel = jax.random.normal(keys[1], (width, features), dtype)
    return x, {"params": {"kernel": kernel}}


@pytest.mark.parametrize("cores", [1, 2, 8])
@pytest.mark.parametrize("shape", _ROWS)
@pytest.mark.parametrize(
    ("width", "features"), [(_WIDTH, 192), (_WIDTH, 768), (575, 600), (16, 24)]
)
def test_a_product_is_that_of_numpy(monkeypatch, cores, shape, width, features):
    monkeypatch.setattr(products, "_cores", lambda: cores)
    x, params = _problem(shape, width, features)
    y = _dense(features).apply(params, x)
    exact = np.asarray(x, np.float64) @ np.asarray(params["params"]["kernel"], np.float64)
    assert y.shape == (*shape, features)
    assert y.dtype == jnp.float32
    np.testing.assert_allclose(y, exact, rtol=0, atol=1e-5 * width**0.5)


@pytest.mark.parametrize("rows", [1, 5])
def test_gradients_and_batched_calls_are_those_of_plain_products(rows):
    x, params = _problem((3, rows), _WIDTH, 600)

    def loss(dense, params, x):
        return (jax.vmap(lambda row: dense.apply(params, row))(x) ** 2).sum()

    for argument in (1, 2):
        few, plain = (
            jax.grad(loss, argument)(dense, params, x)
            for dense in (_dense(600), nn.Dense(600, use_bias=False))
        )
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-2), few, plain
        )


def _compiled(rows: int, features: int, dtype=jnp.float32) -> str:
    x, params = _problem((1, rows), _WIDTH, features, dtype)
    return jax.jit(_dense(features, dtype).apply).lower(params, x).compile().as_text()


def test_one_row_is_a_batch_of_products(monkeypatch):
    monkeypatch.setattr(products, "_cores", lambda: 2)
    assert f"f32[2,{_WIDTH // 2},600]" in _compiled(1, 600)
    assert f"f32[2,{_WIDTH // 2},100]" not in _compiled(1, 100)  # too small to gain
    assert f"f32[2,{_WIDTH // 2},10000]" not in _compiled(1, 10_000)  # split by XLA


@pytest.mark.parametrize("rows", [3, 5, 7])
def test_few_rows_contract_a_transposed_left_side(rows):
    text = _compiled(rows, 600)
    assert "lhs_contracting_dims={0}" in text
    assert "__ynn_fusion" not in text


@pytest.mark.parametrize("rows", [2, 8, 64])
def test_other_numbers_of_rows_are_plain(rows):
    assert "lhs_contracting_dims={0}" not in _compiled(rows, 600)


def test_16_bits_are_plain():
    for dtype in (jnp.bfloat16, jnp.float16):
        assert "lhs_contracting_dims={0}" not in _compiled(5, 600, dtype)
