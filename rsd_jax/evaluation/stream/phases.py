"""Runs the phases of a block as separate programs and times each."""

from collections.abc import Callable
from typing import Any

import numpy as np

from rsd_jax.core.processes import read
from rsd_jax.drafters.base import ModelParams
from rsd_jax.engine import phase_programs as programs
from rsd_jax.engine.phases import DecodeOptions, Engine
from rsd_jax.engine.state import DecodeState
from rsd_jax.evaluation.stopwatch import timed

PHASES = ("draft", "verify", "others")


class PhasedAdvance:
    """Does what `decoding.advance` does, phase by phase; slower, as the host starts each phase.

    Attributes:
      seconds: seconds so far by phase: "draft"; "verify", which is the target pass and the
        verification; "others", which is the commit.
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
        """Runs blocks until every row is done or `max_blocks` have run; donates `state`."""
        count = 0
        while count < max_blocks and not read(state.done).all():
            tree, state = self._timed("draft", programs.draft, engine, params, state, options)
            logits, state = self._timed("verify", programs.score, engine, params, state, tree)
            verdict = self._timed("verify", programs.verify, engine, state, tree, logits, options)
            state = self._timed("others", programs.commit, engine, state, tree, verdict, options)
            count += 1
        return state

    def _timed(self, phase: str, function: Callable[..., Any], *arguments: Any) -> Any:
        result, seconds = timed(function, *arguments)
        self.seconds[phase] += seconds
        return result
