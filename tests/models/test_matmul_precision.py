"""float32 models multiply float32 on every device; other dtypes leave the choice to the device."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax.extend.core import jaxprs_in_params

from rsd_jax.testing.tiny_llama import tiny_pair

_WIDTHS = (1, 5)


def _products(jaxpr):
    """All matrix products of a program, in those of its loops and calls too."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from _products(inner)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("width", _WIDTHS)
def test_float32_models_multiply_in_float32(dtype, width):
    target, _ = tiny_pair(dtype=dtype)
    model = target.model
    tokens = jnp.zeros((1, width), jnp.int32)
    forward = functools.partial(model.forward, slot=0, mask=jnp.ones((1, width, width), bool))
    arguments = (tokens, tokens, model.init_cache(1, 128), model.init_scratch(1, width))
    program = jax.make_jaxpr(forward)(target.params, *arguments)
    products = list(_products(program.jaxpr))
    # Seven dense layers and four products of attention in each layer, and the head.
    assert len(products) == 11 * model.num_layers + 1
    highest = (jax.lax.Precision.HIGHEST,) * 2
    wanted = highest if dtype == "float32" else None
    assert {equation.params["precision"] for equation in products} == {wanted}
