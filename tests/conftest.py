"""Strict settings for every test.

- The Hugging Face Hub is not asked, whatever a test names.
- The mesh tests have eight CPU devices, which must be set before jax is imported. JAX_PLATFORMS in
  the environment takes precedence, so that the suite can run on an accelerator.
- Rank promotion is an error, and so is mixing dtypes implicitly. Both are global settings rather
  than a fixture, so that they also hold for programs that module-scoped fixtures compile.
  Optimisers (optax) need the standard dtype promotion: mark such tests `standard_promotion`.
- Warnings are errors, except those listed below.
- Programs are compiled with few optimisations and, where JAX still has it, by the older code
  generator, 2.5 times as fast, because tests run each program only a few times. Tests that read the
  text of compiled programs use `tests.AS_USERS_COMPILE`, and tests whose programs run for long use
  the fixture `full_optimisation`.
- Compiled programs are released before a process has too many of them.
- Python looks for cycles of garbage seldom: tracing makes many objects, and few cycles.
"""

import gc
import os
import pathlib

import jax
import pytest

import tests

os.environ["HF_HUB_OFFLINE"] = "1"  # before huggingface_hub is imported
jax.config.update("jax_platforms", os.environ.get("JAX_PLATFORMS", "cpu"))
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_disable_most_optimizations", True)
if tests.HAS_OLDER_GENERATOR:
    # jax reads the variable when its first device is asked for.
    # A program in one part instead of 32 compiles in 0.9 times the processor time.
    _FLAGS = f"--{tests.NEWER_GENERATOR}=false --xla_cpu_parallel_codegen_split_count=1"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAGS}".strip()

pytest_plugins = ("tests.compile_meter",)

_MARKERS = ("standard_promotion: implicit mixing of dtypes is allowed (optimisers need it)",)
_WARNINGS = (
    "error",
    # jax writes the files of its cache of programs in place, so a process may find half of one that
    # another process is writing. jax then compiles the program.
    "ignore:Error (read|writ)ing persistent compilation cache entry:UserWarning",
)

_MAPS = pathlib.Path("/proc/self/maps")
_MOST_MAPS = 30_000
"""Of a process between two files of tests. Linux allows 65530 (vm.max_map_count); each compiled
program has several, a file of tests up to 20 000, and one too many ends the process."""


def pytest_configure(config):
    gc.set_threshold(1_000_000, 20, 50)
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)
    for rule in _WARNINGS:
        config.addinivalue_line("filterwarnings", rule)


def pytest_collection_finish(session):
    """What collection has made stays, so the collector need not look at it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _promotion(request):
    """Turns on standard dtype promotion in tests with the marker `standard_promotion`."""
    if request.node.get_closest_marker("standard_promotion") is None:
        yield
        return
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module", autouse=True)
def _release_programs():
    """Releases all compiled programs after a file of tests if they have many memory maps."""
    yield
    if _MAPS.exists() and _MAPS.read_bytes().count(b"\n") > _MOST_MAPS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(scope="module")
def full_optimisation():
    """Compiles the programs of the module with all optimisations, as users get them."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)
