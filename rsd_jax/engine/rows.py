"""The host's loop: blocks on the device, one read, and the next prompts for rows that are done."""

import collections
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rsd_jax.core.processes import read
from rsd_jax.engine.batching import Batch
from rsd_jax.engine.decoding import UNLIMITED, refill
from rsd_jax.engine.job import Job, start
from rsd_jax.engine.state import DecodeState, Prompts

BLOCKS_BETWEEN_READS = 8
"""On a mesh with several data shards, while prompts wait: a shard that ended at its first row that
is done would wait for the others. On one shard the blocks end there."""

RunBlocks = Callable[[DecodeState, np.int32, np.int32], tuple[DecodeState, Any]]
"""(state, most blocks, `most_done` of `advance`) to the next state, and what else is read."""


@dataclasses.dataclass(frozen=True)
class Step:
    """What one read of the device showed.

    Attributes:
      read: from `read_state`.
      prompts: index of the prompt in each row; None for a row without one.
    """

    read: dict[str, Any]
    prompts: tuple[int | None, ...]

    def held(self) -> Iterator[tuple[int, int]]:
        """Row and index of each prompt."""
        return ((row, index) for row, index in enumerate(self.prompts) if index is not None)

    def finished(self) -> Iterator[tuple[int, int]]:
        """Row and index of each prompt that is done, and will not be in the next step."""
        return ((row, index) for row, index in self.held() if self.read["done"][row])


def read_state(state: DecodeState, observed: Any = None) -> dict[str, Any]:
    """Reads everything that a result needs from the device, in a single transfer."""
    names = ("tokens", "prompt_length", "end", "done", "hit_eos", "failed_block", "stats")
    values = {name: getattr(state, name) for name in names}
    return read(values | {"observed": observed})


def steps(job: Job, run: RunBlocks, blocks: int = int(UNLIMITED)) -> Iterator[Step]:
    """Decodes all prompts of a job.

    The first prompts are taken in together, each later one when a row is done, in order. A prompt's
    tokens depend on neither.

    Args:
      job: what to decode.
      run: runs blocks.
      blocks: most blocks between two reads.

    Yields:
      one step per read.
    """
    first = job.batches[0]
    state, size = start(job, first), len(first.prompts.length)
    waiting = collections.deque((b, row) for b in job.batches[1:] for row in range(b.rows))
    indices = [first.first + row if row < first.rows else None for row in range(size)]
    shards = job.engine.layout.data_shards if job.engine.layout else 1
    while True:
        free = [row for row, index in enumerate(indices) if index is None]
        if waiting and free:
            chosen = {row: waiting.popleft() for row in free[: len(waiting)]}
            seed, prompts = jax.tree.map(jnp.asarray, (job.seed, _taken(chosen, first.prompts)))
            state = refill(job.engine, job.params, seed, state, prompts)
            for row, (batch, place) in chosen.items():
                indices[row] = batch.first + place
        if not any(index is not None for index in indices):
            return
        most, most_done = blocks, UNLIMITED
        if waiting and shards == 1:
            most_done = np.int32(0)
        elif waiting:
            most = min(blocks, BLOCKS_BETWEEN_READS)
        state, observed = run(state, np.int32(most), most_done)
        step = Step(read_state(state, observed), tuple(indices))
        yield step
        for row, _ in step.finished():
            indices[row] = None


def _taken(chosen: dict[int, tuple[Batch, int]], like: Prompts) -> Prompts:
    """The chosen prompts at their rows, as numpy arrays; other rows have none."""
    prompts = jax.tree.map(np.zeros_like, like)
    for row, (batch, place) in chosen.items():
        for held, own in zip(*map(jax.tree.leaves, (prompts, batch.prompts)), strict=True):
            held[row] = own[place]
    return prompts
