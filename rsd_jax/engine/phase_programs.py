"""The phases of a block as programs of their own, for those who look in between.

They take and return what the functions of `phases` do. A program returns only what its phase
changes: one that returned the whole state would copy the caches.
"""

import dataclasses
import functools
from typing import Any

import jax

from rsd_jax.core.tree import DraftTree
from rsd_jax.drafters.base import ModelParams
from rsd_jax.engine import phases
from rsd_jax.engine.phases import DecodeOptions, Engine
from rsd_jax.engine.state import DecodeState

_program = functools.partial(jax.jit, static_argnames="engine")


@_program
def _draft(engine: Engine, params: ModelParams, state: DecodeState, options: DecodeOptions):
    tree, after = phases.draft(engine, params, state, options)
    return tree, after.drafter


@_program
def _score(engine: Engine, params: ModelParams, state: DecodeState, tree: DraftTree):
    logits, after = phases.score(engine, params, state, tree)
    return logits, after.target_scratch


def draft(
    engine: Engine, params: ModelParams, state: DecodeState, options: DecodeOptions
) -> tuple[DraftTree, DecodeState]:
    """Phase 1, see `phases.draft`."""
    tree, drafter = _draft(engine, params, state, options)
    return tree, dataclasses.replace(state, drafter=drafter)


def score(
    engine: Engine, params: ModelParams, state: DecodeState, tree: DraftTree
) -> tuple[jax.Array, DecodeState]:
    """Phase 2, see `phases.score`."""
    logits, scratch = _score(engine, params, state, tree)
    return logits, dataclasses.replace(state, target_scratch=scratch)


verify: Any = _program(phases.verify)
"""Phase 3, see `phases.verify`."""

commit: Any = _program(phases.commit, donate_argnames="state")
"""Phase 4, see `phases.commit`; the state is donated."""
