"""Blocks with a record of each: what was drafted, with which probabilities, and what became of it.

The records are collected on the device. `advance` knows nothing of them: a run that asks for no
records runs the same program as before.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from rsd_jax.core.sharding import over_rows
from rsd_jax.core.tree import DraftTree, SiblingLaw
from rsd_jax.core.types import NO_NODE, VerifyResult
from rsd_jax.drafters.base import ModelParams
from rsd_jax.engine import phases
from rsd_jax.engine.decoding import goes_on
from rsd_jax.engine.phases import DecodeOptions, Engine
from rsd_jax.engine.state import DecodeState
from rsd_jax.records.blocks import BlockRecord
from rsd_jax.verifiers.base import TargetLaws

MOST_BLOCKS = 128
"""Blocks between two host reads of `generate` with records; bounds their memory on the device."""

_LAWS = (SiblingLaw.IID, SiblingLaw.WITHOUT_REPLACEMENT, SiblingLaw.POINT)
_NAMES = {law.code: law.value for law in _LAWS}
_GREEDY_NAMES = dict.fromkeys(_NAMES, "likeliest") | {SiblingLaw.POINT.code: "point"}


@struct.dataclass
class Observed:
    """What records are made of, of one block of a batch; in a buffer, M blocks on a second axis.

    Attributes:
      tokens, parents: i32[B, N].
      valid: bool[B, N].
      laws: i8[B, N], `SiblingLaw.code` of each child.
      draft_probs, drawn_probs, target_probs: f32[B, N], see `BlockRecord`.
      path: i32[B, D], padded with `NO_NODE`.
      emitted: i32[B].
      emitted_prob: f32[B].
    """

    tokens: jax.Array
    parents: jax.Array
    valid: jax.Array
    laws: jax.Array
    draft_probs: jax.Array
    drawn_probs: jax.Array
    target_probs: jax.Array
    path: jax.Array
    emitted: jax.Array
    emitted_prob: jax.Array


@functools.partial(jax.jit, static_argnames=("engine", "most"), donate_argnames=("state",))
def advance_and_record(
    engine: Engine,
    most: int,
    params: ModelParams,
    state: DecodeState,
    options: DecodeOptions,
    max_blocks: jax.Array,
    most_done: jax.Array,
) -> tuple[DecodeState, Observed]:
    """Runs blocks as `decoding.advance` does, with the same tokens, and records them.

    Args:
      engine: static.
      most: M, the most blocks of a call; static, the size of the buffer.
      params: of the models.
      state: donated.
      options: traced.
      max_blocks, most_done: as in `advance`; max_blocks at most M.

    Returns:
      the state after the blocks; the buffer, leaves [B, M, ...]. A row's entries are those of
      its blocks, the first one at 0, and junk after them.
    """

    @over_rows(engine.layout, engine.place)
    def run(
        params: ModelParams,
        options: DecodeOptions,
        max_blocks: jax.Array,
        most_done: jax.Array,
        *,
        state: DecodeState,
    ) -> tuple[DecodeState, Observed]:
        Carry = tuple[jax.Array, DecodeState, Observed]

        def block(state: DecodeState) -> tuple[DecodeState, Observed]:
            tree, state = phases.draft(engine, params, state, options)
            logits, state = phases.score(engine, params, state, tree)
            result = phases.verify(engine, state, tree, logits, options)
            observed = _observe(phases.target_laws(engine, tree, logits, options), tree, result)
            return phases.commit(engine, state, tree, result, options), observed

        def step(carry: Carry) -> Carry:
            count, state, buffer = carry
            state = engine.place(state, within_rows=True)
            state, observed = block(state)

            def write(buffer: jax.Array, entry: jax.Array) -> jax.Array:
                return jax.lax.dynamic_update_index_in_dim(buffer, entry, count, axis=1)

            return count + 1, state, jax.tree.map(write, buffer, observed)

        def unfinished(carry: Carry) -> jax.Array:
            return (carry[0] < max_blocks) & goes_on(carry[1].done, most_done)

        def room(entry: jax.ShapeDtypeStruct) -> jax.Array:
            return jnp.zeros((entry.shape[0], most, *entry.shape[1:]), entry.dtype)

        buffer = jax.tree.map(room, jax.eval_shape(block, state)[1])
        start = (jnp.asarray(0, jnp.int32), state, buffer)
        return jax.lax.while_loop(unfinished, step, start)[1:]

    return run(params, options, max_blocks, most_done, state=state)


def _observe(target: TargetLaws, tree: DraftTree, result: VerifyResult) -> Observed:
    """One block of a batch."""
    if tree.child_laws is not None:
        laws = tree.child_laws
    else:
        laws = jnp.full_like(tree.tokens, tree.siblings.code, jnp.int8)
    greedy, slots = target.warp.greedy, jnp.arange(1, tree.shape.num_nodes, dtype=jnp.int32)

    def of_row(row: DraftTree, logits: jax.Array, places: Any, path: jax.Array, emitted: jax.Array):
        own = TargetLaws(logits, target.warp, places, target.backend)

        def of_child(child: jax.Array) -> jax.Array:
            parent, token = row.parents[child], row.tokens[child]
            draft = row.draft_logprobs_at(parent)[token]
            if row.child_laws is not None:  # the node of a point may have no law
                is_point = row.child_laws[child] == SiblingLaw.POINT.code
                draft = jnp.where(is_point, jnp.zeros_like(draft), draft)
            drawn = jnp.zeros_like(draft) if greedy else row.law_of(child)[token]
            logs = (draft, drawn, own.at(parent)[token])
            return jnp.exp(jnp.stack([log.astype(jnp.float32) for log in logs]))

        # One child at a time: side by side, the laws would take N V numbers.
        found = jnp.where(row.valid[1:, None], jax.lax.map(of_child, slots), jnp.nan)
        probs = jnp.concatenate([jnp.full((1, 3), jnp.nan, jnp.float32), found])
        stop = path.max(initial=0)  # parents come before children
        return probs, jnp.exp(own.at(stop)[emitted]).astype(jnp.float32)

    probs, emitted_prob = jax.vmap(of_row)(
        tree, target.logits, target.places, result.path, result.next_token
    )
    return Observed(
        tokens=tree.tokens,
        parents=tree.parents,
        valid=tree.valid,
        laws=laws,
        draft_probs=probs[..., 0],
        drawn_probs=probs[..., 1],
        target_probs=probs[..., 2],
        path=result.path,
        emitted=result.next_token,
        emitted_prob=emitted_prob,
    )


def records_of_row(
    engine: Engine, greedy: bool, read: dict[str, Any], row: int, earlier: Sequence[BlockRecord]
) -> list[BlockRecord]:
    """The records of one row from one call of `advance_and_record`.

    Args:
      engine: of the call.
      greedy: whether T = 0.
      read: from `read_state` after the call, with the buffer as "observed".
      row: of the batch.
      earlier: the row's records from earlier calls.
    """
    seen: Any = read["observed"]  # an `Observed` of numpy arrays
    length = int(read["end"][row] - read["prompt_length"][row])
    start = earlier[-1].start + earlier[-1].num_accepted + 1 if earlier else 0
    found: list[BlockRecord] = []
    names = _GREEDY_NAMES if greedy else _NAMES
    for entry in range(int(read["stats"].blocks[row]) - len(earlier)):
        valid, path = seen.valid[row, entry], seen.path[row, entry]
        path = path[path != NO_NODE]
        drawn = [names[int(code)] for code in seen.laws[row, entry]]
        found.append(
            BlockRecord(
                block=len(earlier) + entry,
                start=start,
                kept=min(len(path) + 1, length - start),
                tokens=seen.tokens[row, entry],
                parents=seen.parents[row, entry],
                depths=np.asarray(engine.drafter.shape.depths),
                valid=valid,
                drawn=tuple(
                    name if slot and is_valid else ""
                    for slot, (name, is_valid) in enumerate(zip(drawn, valid, strict=True))
                ),
                draft_probs=seen.draft_probs[row, entry],
                drawn_probs=seen.drawn_probs[row, entry],
                target_probs=seen.target_probs[row, entry],
                path=path,
                emitted=int(seen.emitted[row, entry]),
                emitted_prob=float(seen.emitted_prob[row, entry]),
            )
        )
        start += len(path) + 1
    return found
