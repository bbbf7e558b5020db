"""Part `peers`: seconds per target call of Hugging Face transformers on the same shapes."""

import dataclasses
import functools
import importlib.util
import statistics
from typing import Any

import numpy as np

from rsd_jax.engine.request import Sampling
from rsd_jax.errors import ConfigError
from rsd_jax.evaluation.accelerator.cells import Cell
from rsd_jax.evaluation.accelerator.settings import Settings
from rsd_jax.evaluation.measured_rows import header
from rsd_jax.evaluation.peers import LIBRARIES, Peer, TransformersPeer
from rsd_jax.evaluation.stopwatch import timed
from rsd_jax.models.shapes import NAMED_CONFIGS
from rsd_jax.records.device_parts import PeerBlock
from rsd_jax.records.hardware import current_versions

PART = "peers"


@dataclasses.dataclass(frozen=True)
class _Way:
    """A way to decode: the name in the rows, and the options of `TransformersPeer.peer`."""

    name: str
    draft_length: int = 0
    static_cache: bool = False


class PeerBench:
    """The pair in PyTorch, made on first use; nothing of ours is in the device's memory."""

    def __init__(self, settings: Settings):
        self.settings = settings

    @functools.cached_property
    def peers(self) -> TransformersPeer:
        """A random pair of the settings' shapes."""
        settings = self.settings
        target, draft = (NAMED_CONFIGS[name] for name in (settings.shape, settings.draft_shape))
        return TransformersPeer.random(target, draft, settings.peer_dtype)

    def block_seconds(self, way: _Way) -> float:
        """Seconds per target call: time between two numbers of new tokens over calls between them.

        So the prefill counts in no way, and each program is compiled before it is timed.
        """
        settings = self.settings
        rng, vocabulary = np.random.default_rng(0), NAMED_CONFIGS[settings.shape].vocab_size
        prompts = rng.integers(0, vocabulary, (1, settings.context)).tolist()

        def peer(new_tokens: int) -> Peer:
            sampling = Sampling(max_new_tokens=new_tokens, temperature=settings.temperature)
            return self.peers.peer(
                sampling, draft_length=way.draft_length, static_cache=way.static_cache
            )

        def run(new_tokens: int) -> tuple[float, int]:
            each = peer(new_tokens)
            if not way.draft_length:
                return timed(each.decode, prompts)[1], new_tokens
            with self.peers.counted_calls() as calls:
                seconds = timed(each.decode, prompts)[1]
            return seconds, calls[0]

        short, long = settings.peer_tokens
        for new_tokens in (short, long):
            run(new_tokens)
        taken = []
        for _ in range(settings.repeats):
            (first, few), (second, many) = run(short), run(long)
            taken.append((second - first) / (many - few))
        return max(statistics.median(taken), 0.0)  # noise may exceed a few tiny steps


def peer_cells(settings: Settings) -> list[Cell]:
    """A static cache, assisted generation, and `generate` as it comes.

    Raises:
      ConfigError: torch is not installed.
    """
    if importlib.util.find_spec("torch") is None:
        raise ConfigError("the part 'peers' needs torch, which is not installed; leave it out")
    bench = PeerBench(settings)
    ways = (
        _Way("hf_static", static_cache=True),
        _Way("hf_assisted", draft_length=settings.peer_length),
        _Way("hf_generate"),
    )
    return [_cell(bench, way) for way in ways]


def _cell(bench: PeerBench, way: _Way) -> Cell:
    settings = bench.settings

    def fields() -> dict[str, Any]:
        length = way.draft_length
        return header(
            None,
            kind="peer",
            pair=f"random {settings.shape}",
            task="random",
            method=way.name,
            tree=str(length) if length else "-",
            draft_length=length,
            temperature=settings.temperature,
            dtype=settings.peer_dtype,
            batch_size=1,
            context_length=settings.context,
            versions=current_versions(*LIBRARIES),
        )

    def measure() -> dict[str, Any]:
        return {"peer": PeerBlock(t_block=bench.block_seconds(way))}

    return Cell(PART, f"{way.name} {way.draft_length}", fields, measure)
