"""Strict settings for every test.

- Eight CPU devices, for the mesh tests. JAX_PLATFORMS in the environment wins, so the suite can be
  pointed at an accelerator.
- Rank promotion is an error, and so is mixing dtypes implicitly. They are global settings rather
  than a fixture so that programs compiled in module-scoped fixtures are under them too. Optimisers
  (optax) need the standard dtype promotion: mark such tests `standard_promotion`.
- Warnings are errors, except those listed below.
- Programs are compiled with few optimisations, which halves the time of the suite: tests run each
  program a few times. The tests that read compiled text ask for `full_optimisation`.
"""

import os

import jax
import pytest

jax.config.update("jax_platforms", os.environ.get("JAX_PLATFORMS", "cpu"))
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_disable_most_optimizations", True)

pytest_plugins = ("tests.compile_meter",)

_MARKERS = ("standard_promotion: implicit mixing of dtypes is allowed (optimisers need it)",)
_WARNINGS = ("error",)


def pytest_configure(config):
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)
    for rule in _WARNINGS:
        config.addinivalue_line("filterwarnings", rule)


@pytest.fixture(autouse=True)
def _promotion(request):
    """Standard dtype promotion in the tests that ask for it."""
    if request.node.get_closest_marker("standard_promotion") is None:
        yield
        return
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module")
def full_optimisation():
    """Programs of the module as users get them."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)
