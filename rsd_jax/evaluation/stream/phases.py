"""Blocks whose phases are programs of their own, each waited for and timed."""

import functools
import time
from typing import Any

import jax
import numpy as np

from rsd_jax.drafters.base import ModelParams
from rsd_jax.engine import phases
from rsd_jax.engine.phases import DecodeOptions, Engine
from rsd_jax.engine.state import DecodeState

PHASES = ("draft", "verify", "others")


class PhasedAdvance:
    """Does what `decoding.advance` does, phase by phase; slower, with the host in between.

    Attributes:
      seconds: by phase, so far: "verify" is the target pass and the verification, "others" taking
        in the tokens.
    """

    def __init__(self):
        self.seconds = dict.fromkeys(PHASES, 0.0)

    def __call__(
        self,
        engine: Engine,
        params: ModelParams,
        state: DecodeState,
        options: DecodeOptions,
        max_blocks: np.integer | int,
    ) -> DecodeState:
        """Runs blocks until every row is done or `max_blocks` have run; `state` is donated."""
        count = 0
        while count < max_blocks and not np.asarray(state.done).all():
            tree, state = self._timed("draft", _draft, engine, params, state, options)
            verdict, state = self._timed("verify", _verify, engine, params, state, tree, options)
            state = self._timed("others", _commit, engine, state, tree, verdict, options)
            count += 1
        return state

    def _timed(self, phase: str, function: Any, *arguments: Any) -> Any:
        begin = time.perf_counter()
        result = jax.block_until_ready(function(*arguments))
        self.seconds[phase] += time.perf_counter() - begin
        return result


# The state is donated, so that no cache is copied on the way from phase to phase.
@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def _draft(engine: Engine, params: ModelParams, state: DecodeState, options: DecodeOptions):
    return phases.draft(engine, params, state, options)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def _verify(
    engine: Engine, params: ModelParams, state: DecodeState, tree: Any, options: DecodeOptions
):
    logits, state = phases.score(engine, params, state, tree)
    return phases.verify(engine, state, tree, logits, options), state


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def _commit(engine: Engine, state: DecodeState, tree: Any, verdict: Any, options: DecodeOptions):
    return phases.commit(engine, state, tree, verdict, options)
