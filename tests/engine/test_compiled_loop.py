"""The compiled loop has no cache-sized copies, no host traffic and no sorted vocabularies."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsd_jax.engine.decoding import UNLIMITED, advance, prefill
from rsd_jax.engine.job import prepare, start
from rsd_jax.engine.request import Request
from rsd_jax.testing.tiny_llama import TINY_CONFIG, tiny_pair
from tests import AS_USERS_COMPILE, joint_law
from tests.joint_law import METHODS

CAPACITY = 4096  # far above every other size of the tiny pair, so that a cache shows
HOST_TRAFFIC = ("callback", "infeed", "outfeed", " send(", " recv(", "host_compute")
MOVES = ("copy", "copy-start", "transpose", "concatenate", "pad", "reverse", "gather")


@functools.cache
def _pair():
    target, draft = tiny_pair()
    return [_unlimited(loaded) for loaded in (target, draft)]


def _unlimited(loaded):
    config = dataclasses.replace(TINY_CONFIG, max_positions=2 * CAPACITY)
    model = dataclasses.replace(loaded.model, config=config)
    return dataclasses.replace(loaded, model=model)


@functools.cache
def _compiled(method, batch):
    """`_compile`, once for all tests."""
    return _compile(method, batch)


def _compile(method, batch, **warp):
    """(text, bytes of temporaries, bytes of a cache buffer) of the loop."""
    built = joint_law.method(method)
    prompts = [[1, 2, 3]] * batch
    options = warp | joint_law.skips(built)
    job = prepare(built, *_pair(), Request.of(prompts, max_new_tokens=CAPACITY - 100, **options))
    assert job.batches[0].prompts.tokens.shape[1] == CAPACITY
    state = jax.eval_shape(lambda: start(job, job.batches[0]))
    lowered = advance.lower(job.engine, job.params, state, job.options, np.int32(1), UNLIMITED)
    compiled = lowered.compile(AS_USERS_COMPILE)
    buffer = state.target_cache.keys[0]
    temporaries = compiled.memory_analysis().temp_size_in_bytes
    return compiled.as_text(), temporaries, buffer.size * buffer.dtype.itemsize


def _cache_sized(text):
    """Instructions whose result has the size of a cache buffer, by operation."""
    pattern = re.compile(r"= \(?\w+\[([\d,]+)\]\S* ([\w\-]+)\(")
    found = [
        (match[2], match[1])
        for match in pattern.finditer(text)
        if CAPACITY in map(int, match[1].split(",")) and match[1].count(",") >= 2
    ]
    assert found, "no cache in the program: the pattern no longer fits the compiler's text"
    return found


# Rules that differ in the shape of their trees alone run the same passes.
_PASSES = [name for name in METHODS if name not in ("rsd_c", "static", "mixed_beam", "self_beam")]


# One of each kind of drafter with rows that are written one by one; some with a single row.
@pytest.mark.parametrize(
    ("method", "batch"),
    [(method, 8) for method in _PASSES] + [(method, 1) for method in ("ar", "rsd_s", "swift")],
)
def test_caches_stay_in_place(method, batch):
    text, temporaries, buffer = _compiled(method, batch)
    moved = [entry for entry in _cache_sized(text) if entry[0] in MOVES]
    assert not moved, f"{method} at batch {batch} moves whole buffers: {moved}"
    assert temporaries < buffer
    assert not [word for word in HOST_TRAFFIC if word in text]


@pytest.mark.parametrize("batch", [1, 8])
def test_taking_in_a_prompt_leaves_caches_in_place(batch):
    """Each chunk of a prompt is written into the caches that its own pass has read."""
    request = Request.of([[1, 2, 3]] * batch, max_new_tokens=CAPACITY - 100)
    job = prepare(joint_law.method("sd"), *_pair(), request)
    arguments = (job.engine, job.params, job.seed, job.batches[0].prompts)
    text = prefill.lower(*arguments).compile(AS_USERS_COMPILE).as_text()
    in_loops, _, outside = text.partition("\nENTRY ")
    assert outside
    moved = [entry for entry in _cache_sized(in_loops) if entry[0] in MOVES]
    assert not moved


@pytest.mark.parametrize("method", ["ar", "sd"])
def test_a_commit_does_not_loop_over_rows(method):
    """A vmapped write of a slice is a scatter, which compilers turn into a loop over the rows."""
    text, *_ = _compiled(method, 8)
    commit = [line for line in text.splitlines() if "/commit/" in line]
    assert any("dynamic-update-slice(" in line for line in commit)
    assert not [line for line in commit if " scatter(" in line or " while(" in line]


def test_the_check_sees_a_copy(monkeypatch):
    """The test above detects a commit that gathers the whole buffer."""
    from rsd_jax.models import cache

    write = cache.write_rows

    def through_a_copy(buffer, update, start, *, axis):
        everything = jnp.minimum(jnp.arange(CAPACITY), start[0] + CAPACITY)
        return write(buffer[:, :, everything], update, start, axis=axis)

    monkeypatch.setattr(cache, "write_rows", through_a_copy)
    jax.clear_caches()
    text, temporaries, buffer = _compile("sd", 1)
    monkeypatch.undo()
    jax.clear_caches()
    moved = [entry for entry in _cache_sized(text) if entry[0] in MOVES]
    assert moved or temporaries >= buffer


@pytest.mark.parametrize("method", ["rsd_c", "rsd_s"])
def test_no_sort_of_a_vocabulary(method):
    """With every warp on; sorts of the few contenders of a beam are allowed."""
    text, *_ = _compile(method, 1, temperature=0.7, top_k=5, top_p=0.9)
    sizes = [
        max(map(int, match[1].split(",")))
        for match in re.finditer(r"= \(\w+\[([\d,]+)\]\S* \S+ sort\(", text)
    ]
    assert all(size < TINY_CONFIG.vocab_size for size in sizes)
