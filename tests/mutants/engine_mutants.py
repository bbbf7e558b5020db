"""Faults of the loop around the verifier: batches, keys, ends of rows, NaNs.

Each fault is a context manager, inside which `generate` runs faulty code.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp

from rsd_jax.core.sampling import Purpose, gumbels, residual
from rsd_jax.core.tree import DraftTree
from rsd_jax.core.types import NO_NODE, VerifyResult
from rsd_jax.engine import decoding, generation, job, phases, rows
from rsd_jax.engine.methods import Method
from rsd_jax.engine.phases import Engine
from rsd_jax.verifiers.base import TargetLaws
from rsd_jax.verifiers.recursive_rejection import RecursiveRejection
from tests.mutants.state_mutants import Wrapped


@dataclasses.dataclass(frozen=True)
class BatchMinimum(RecursiveRejection):
    """Rows advance together: all rows of a group are cut to the group's fewest accepted nodes, m.

    Attributes:
      redraw: where the (m + 1)-th token of a row that had more comes from: the "residual" at that
        node or "p", both of which bias the output; or "accepted", the token that was accepted
        there, which is lossless but makes a row depend on its batch.
      group: rows that advance together.
    """

    redraw: str = "residual"
    group: int = 2

    def verify(self, tree: DraftTree, target: TargetLaws, keys: jax.Array) -> VerifyResult:
        result = super().verify(tree, target, keys)
        grouped = result.num_accepted.reshape(-1, self.group)
        fewest = jnp.broadcast_to(grouped.min(axis=1, keepdims=True), grouped.shape).reshape(-1)
        cut = result.num_accepted > fewest

        def laws(row: DraftTree, logits: jax.Array, path: jax.Array, m: jax.Array) -> jax.Array:
            node = jnp.where(m > 0, path[jnp.maximum(m - 1, 0)], 0)
            p = jnp.exp(dataclasses.replace(target, logits=logits).at(node))
            inner = jnp.minimum(node, row.shape.num_internal - 1)
            rest, mass = residual(p, jnp.exp(row.draft_logprobs_at(inner)))
            return p if self.redraw == "p" else jnp.where(mass > 0, rest, p)

        law = jax.vmap(laws)(tree, target.logits, result.path, fewest)
        noise = gumbels(keys, Purpose.EMIT, law.shape[1:])
        redrawn = jnp.argmax(jnp.log(law) + noise, axis=-1).astype(jnp.int32)
        if self.redraw == "accepted":
            at = jnp.minimum(fewest, tree.shape.depth - 1)
            node = jnp.take_along_axis(result.path, at[:, None], axis=1)
            redrawn = jnp.take_along_axis(tree.tokens, jnp.maximum(node, 0), axis=1)[:, 0]
        kept = jnp.arange(tree.shape.depth, dtype=jnp.int32)[None] < fewest[:, None]
        return dataclasses.replace(
            result,
            num_accepted=fewest,
            path=jnp.where(kept, result.path, NO_NODE),
            ranks=jnp.where(kept, result.ranks, NO_NODE),
            next_token=jnp.where(cut, redrawn, result.next_token),
        )


def batch_minimum(method: Method, redraw: str, group: int = 2) -> Method:
    """A method of recursive rejection whose rows advance to the batch's minimum."""
    return dataclasses.replace(method, verifier=BatchMinimum(redraw=redraw, group=group))


@contextlib.contextmanager
def patched_engine(**functions: Callable[..., Any]) -> Iterator[None]:
    """Replaces functions that `phases` or `decoding` call, in freshly compiled programs."""
    raw_prefill = decoding.prefill.__wrapped__  # type: ignore[attr-defined]
    raw_advance = decoding.advance.__wrapped__  # type: ignore[attr-defined]
    raw_refill = decoding.refill.__wrapped__  # type: ignore[attr-defined]

    # Functions of their own: programs are cached by the function that was traced.
    def prefill(engine, *args):
        return raw_prefill(engine, *args)

    def advance(engine, *args):
        return raw_advance(engine, *args)

    def refill(engine, *args):
        return raw_refill(engine, *args)

    compiled = [jax.jit(each, static_argnums=0) for each in (prefill, advance, refill)]
    with contextlib.ExitStack() as patches:
        for name, function in functions.items():
            module = phases if hasattr(phases, name) else decoding
            patches.enter_context(mock.patch.object(module, name, function))
        patches.enter_context(mock.patch.object(job, "prefill", compiled[0]))
        patches.enter_context(mock.patch.object(generation, "advance", compiled[1]))
        patches.enter_context(mock.patch.object(rows, "refill", compiled[2]))
        yield


def same_key_in_consecutive_blocks() -> contextlib.AbstractContextManager[None]:
    """Block 2i + 1 draws what block 2i drew."""
    original = phases.block_keys
    return patched_engine(block_keys=lambda rows, block: original(rows, block // 2))


def same_key_in_two_rows() -> contextlib.AbstractContextManager[None]:
    """Request 2i + 1 draws what request 2i draws."""
    original = decoding.row_keys
    return patched_engine(row_keys=lambda seed, requests: original(seed, requests // 2))


@dataclasses.dataclass(frozen=True)
class _Skipping(Wrapped):
    """Every pass skips the same sub-layers, bool[layers, 2], whatever the argument `skips`."""

    skips: jax.Array

    def forward(self, *args, **options):
        return self.inner.forward(*args, **options | {"skips": self.skips})


def skipping(engine: Engine, skips: jax.Array | None) -> Engine:
    """An engine whose target skips sub-layers; for use inside one trace."""
    assert skips is not None
    target = _Skipping(engine.models.target, engine.drafter.shape, skips)
    return dataclasses.replace(engine, models=dataclasses.replace(engine.models, target=target))


def skips_in_the_target_pass() -> contextlib.AbstractContextManager[None]:
    """The target pass skips what the draft passes skip."""

    def score(engine, params, state, tree):
        return original(skipping(engine, params.skips), params, state, tree)

    original = phases.score
    return patched_engine(score=score)


def non_finite_accepted() -> contextlib.AbstractContextManager[None]:
    """NaN logits become a token: `argmax` returns the index of the first NaN."""

    def verify(*args):
        result = original(*args)
        return dataclasses.replace(result, finite=jnp.ones_like(result.finite))

    original = phases.verify
    return patched_engine(verify=verify)


def eos_at_block_ends_only() -> contextlib.AbstractContextManager[None]:
    """An EOS in the middle of a block is ignored."""

    def commit(engine, state, tree, result, options):
        ends = (result.next_token[:, None] == options.eos_ids[None]).any(axis=1)
        none = dataclasses.replace(options, eos_ids=jnp.full_like(options.eos_ids, NO_NODE))
        after = original(engine, state, tree, result, none)
        ended = ends & ~state.done & (after.length <= state.limit)
        return dataclasses.replace(after, done=after.done | ended, hit_eos=after.hit_eos | ended)

    original = phases.commit
    return patched_engine(commit=commit)


def limit_at_block_ends_only() -> contextlib.AbstractContextManager[None]:
    """The block that exceeds max_new_tokens is returned whole."""

    def commit(engine, state, tree, result, options):
        after = original(engine, state, tree, result, options)
        return dataclasses.replace(after, end=jnp.where(after.hit_eos, after.end, after.length))

    original = phases.commit
    return patched_engine(commit=commit)


def limit_before_eos() -> contextlib.AbstractContextManager[None]:
    """The block that exceeds max_new_tokens is not searched for an EOS."""

    def commit(engine, state, tree, result, options):
        last = state.length + result.num_accepted + 1
        over = last >= state.limit
        none = dataclasses.replace(options, eos_ids=jnp.full_like(options.eos_ids, NO_NODE))
        blind, right = (original(engine, state, tree, result, o) for o in (none, options))
        return jax.tree.map(functools.partial(_select, over), blind, right)

    original = phases.commit
    return patched_engine(commit=commit)


def _select(rows: jax.Array, first: jax.Array, second: jax.Array) -> jax.Array:
    return jnp.where(rows.reshape(rows.shape + (1,) * (first.ndim - 1)), first, second)
