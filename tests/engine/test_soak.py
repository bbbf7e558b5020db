"""A long-lived process: nothing is compiled after the first calls, and memory does not grow.

RSD_JAX_SOAK=N decodes N times (2,000 or more show a slow leak); `-s` shows the figures.
"""

import gc
import itertools
import os
import pathlib
import random

import pytest

import rsd_jax
from tests import tiny
from tests.compile_meter import compilations

_GENERATIONS = int(os.environ.get("RSD_JAX_SOAK", "0"))
_SETTLED, _BETWEEN = 500, 100
"""Generations until memory is taken for settled, and between two readings of it."""

_GROWTH = 0.02
_WAYS = ("generate", "stream", "abandoned stream", "records")
_TEMPERATURES = (0.0, 0.3, 0.7, 1.0)
_STATUS = pathlib.Path("/proc/self/status")


def _resident() -> float:
    """MiB that the process has in memory, without garbage."""
    gc.collect()
    (line,) = [each for each in _STATUS.read_text().splitlines() if each.startswith("VmRSS:")]
    return int(line.split()[1]) / 1024


def _generation(name: str, way: str, temperature: float, draws: random.Random) -> int:
    """Decodes some prompts by one method, in one of `_WAYS`; the number of tokens."""
    target, draft = tiny.pair()
    prompts = [
        [draws.randrange(32) for _ in range(draws.randint(1, 40))]
        for _ in range(draws.randint(1, 6))
    ]
    given = {
        "max_new_tokens": [draws.randint(1, 24) for _ in prompts],
        "temperature": temperature,
        "seed": draws.randrange(2**32),
        "eos_id": draws.sample(range(32), draws.randint(0, 4)),
        "batch_size": 3,
        "capacity": 128,
    }
    models = (tiny.method(name), target, draft if name in tiny.DRAFTING else None)
    given |= tiny.skips(name)
    if "stream" in way:
        parts = rsd_jax.stream(*models, prompts, blocks_per_step=draws.randint(1, 5), **given)
        shown = itertools.islice(parts, None if way == "stream" else 2)
        return sum(len(tokens) for _, tokens in shown)
    recorded = way == "records" and name == "rsd_s"  # one program more is enough
    return int(rsd_jax.generate(*models, prompts, record_blocks=recorded, **given).num_tokens.sum())


@pytest.mark.skipif(not _GENERATIONS, reason="takes minutes; RSD_JAX_SOAK=2000 runs it")
@pytest.mark.skipif(not _STATUS.exists(), reason="memory is read from /proc")
def test_many_generations_compile_nothing_and_keep_nothing():
    draws, names = random.Random(0), itertools.cycle(tiny.METHODS)
    with compilations() as first:
        for each in itertools.product(tiny.METHODS, _WAYS, _TEMPERATURES):
            _generation(*each, draws)
    assert first
    memory, tokens = {}, 0
    with compilations() as later:
        for count in range(1, max(_GENERATIONS, _SETTLED + _BETWEEN) + 1):
            way, temperature = draws.choice(_WAYS), draws.choice(_TEMPERATURES)
            tokens += _generation(next(names), way, temperature, draws)
            if count >= _SETTLED and count % _BETWEEN == 0:
                memory[count] = _resident()
    growth = max(memory.values()) / memory[_SETTLED] - 1
    print(
        f"\n{count} generations, {tokens} tokens: {len(later)} compilations; "
        f"{memory[_SETTLED]:.1f} MiB after {_SETTLED}, {memory[max(memory)]:.1f} MiB after "
        f"{max(memory)}, never more than {100 * growth:.2f} % above the first"
    )
    assert later == []
    assert growth < _GROWTH
