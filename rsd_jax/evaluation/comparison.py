"""Several methods side by side on the same prompts, in the same batches."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rsd_jax import metrics
from rsd_jax.batching import bucket
from rsd_jax.decoding import required_capacity
from rsd_jax.errors import ConfigError
from rsd_jax.generation import generate
from rsd_jax.hardware import Hardware, current_versions
from rsd_jax.job import LoadedModel
from rsd_jax.methods import Method
from rsd_jax.models.llama import LlamaModel
from rsd_jax.results import GenerateResult, GenerateStats, join_stats
from rsd_jax.rows import BytesRatio, Row, config_hash

Progress = Callable[[str], None]
"""Called with a line that says what was just done."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
    """How to decode, the same for every method; the fields are those of `generate`."""

    max_new_tokens: int
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    seed: int = 0
    eos_id: tuple[int, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Measured:
    """One method on all prompts.

    Attributes:
      method: which.
      tokens: new tokens of each prompt.
      seconds: wall time of each batch, prefill included.
      batch_size: prompts per batch; the last may hold fewer.
      stats: counts by prompt.
      compile_time: seconds that the first calls took longer than their repetition.
    """

    method: Method
    tokens: list[list[int]]
    seconds: np.ndarray
    stats: GenerateStats
    compile_time: float
    batch_size: int = 1

    def per_batch(self, counts: np.ndarray) -> np.ndarray:
        """Sums of a count of each prompt over the batches."""
        return np.add.reduceat(counts, np.arange(0, len(counts), self.batch_size))


def steps(methods: Sequence[Method], prompts: Sequence[Sequence[int]], batch_size: int = 1) -> int:
    """How often `compare` reports progress."""
    return len(methods) * (1 + -(-len(prompts) // batch_size))


def compare(
    methods: Sequence[Method],
    target: LoadedModel,
    draft: LoadedModel | None,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    progress: Progress = lambda done: None,
    *,
    batch_size: int = 1,
) -> list[Measured]:
    """Decodes every prompt with every method and times each call.

    First every program is compiled and run once more, untimed. Then the methods take turns on
    each batch, another one starting each time, so that slow moments of the machine fall on all
    of them alike. A prompt's request id is its place, for every method.

    Args:
      methods: from `build_method`; one of them "ar" if ratios to it are wanted.
      target, draft: from `load_model`.
      prompts: lists of token ids.
      sampling: the same for all.
      progress: called with a line of text after each of the `steps`.
      batch_size: prompts decoded together.

    Returns:
      one per method, in their order.

    Raises:
      ConfigError, NonFiniteLogitsError: as `generate`.
    """

    if not prompts:
        raise ConfigError("prompts is empty; give at least one list of token ids")
    batches = [
        range(first, min(first + batch_size, len(prompts)))
        for first in range(0, len(prompts), batch_size)
    ]

    def decode(method: Method, batch: range) -> tuple[GenerateResult, float]:
        begin = time.perf_counter()
        result = generate(
            method, target, draft, [prompts[i] for i in batch], request_ids=list(batch),
            batch_size=batch_size, **dataclasses.asdict(sampling),
        )  # fmt: skip
        return result, time.perf_counter() - begin

    compile_times = []
    for method in methods:
        first_calls = 0.0
        for batch in _one_batch_per_program(method, prompts, batches, sampling.max_new_tokens):
            first_calls += decode(method, batch)[1]
            first_calls -= decode(method, batch)[1]
        compile_times.append(max(first_calls, 0.0))
        progress(f"{method.name}: compiled")
    timed: list[list[tuple[GenerateResult, float]]] = [[] for _ in methods]
    for index, batch in enumerate(batches):
        for turn in range(len(methods)):
            chosen = (index + turn) % len(methods)
            timed[chosen].append(decode(methods[chosen], batch))
            progress(f"{methods[chosen].name}: {batch.stop} of {len(prompts)} prompts")
    return [
        Measured(
            method=method,
            tokens=[row for result, _ in runs for row in result.tokens],
            seconds=np.asarray([seconds for _, seconds in runs]),
            stats=join_stats([result.stats for result, _ in runs]),
            compile_time=compile_time,
            batch_size=batch_size,
        )
        for method, runs, compile_time in zip(methods, timed, compile_times, strict=True)
    ]


def _one_batch_per_program(
    method: Method,
    prompts: Sequence[Sequence[int]],
    batches: Sequence[range],
    max_new_tokens: int,
) -> list[range]:
    """Batches that together need every capacity bucket that all of them need."""
    by_capacity: dict[int, range] = {}
    for batch in batches:
        longest = max(len(prompts[i]) for i in batch)
        capacity = bucket(required_capacity(method.drafter, longest, max_new_tokens))
        by_capacity.setdefault(capacity, batch)
    return list(by_capacity.values())


def comparison_rows(
    measured: Sequence[Measured],
    target: LoadedModel,
    draft: LoadedModel | None,
    sampling: Sampling,
    *,
    source: str,
    pair: str,
    task: str,
) -> list[Row]:
    """Result rows with intervals over prompts; ratios are to the method "ar" if it is there.

    Args:
      measured: from `compare`, with the same models and sampling.
      source, pair, task: fields of the rows.
    """
    baseline = next((m for m in measured if m.method.name == "ar"), None)
    ratio = _bytes_ratio(target, draft)
    settings = dataclasses.asdict(sampling) | {
        "methods": [[m.method.name, m.method.tree] for m in measured],
        "pair": pair,
        "task": task,
    }
    shared: dict[str, Any] = {
        "source": source,
        "pair": pair,
        "task": task,
        "temperature": float(sampling.temperature),
        "top_k": sampling.top_k,
        "top_p": float(sampling.top_p),
        "seed": sampling.seed,
        "max_new_tokens": sampling.max_new_tokens,
        "batch_size": measured[0].batch_size,
        "dtype": getattr(target.model, "dtype", None),
        "mesh": dict(target.layout.mesh.shape) if target.layout else None,
        "hardware": Hardware.current(),
        "versions": current_versions(),
        "bytes_ratio": ratio,
        "prefill_timed": True,
        "intervals_over": "prompts" if measured[0].batch_size == 1 else "batches",
        "config_hash": config_hash(settings),
    }
    return [Row(**shared, **_measurements(m, baseline, ratio)) for m in measured]


def _measurements(
    measured: Measured, baseline: Measured | None, ratio: BytesRatio | None
) -> dict[str, Any]:
    """The fields of a row that differ from method to method."""
    method, stats, seconds = measured.method, measured.stats, measured.seconds
    counts = _tokens_per_batch(measured)
    passes = method.drafter.shape.depth
    efficiency = stats.block_efficiency
    efficiency_ends = metrics.bootstrap_interval(
        measured.per_batch(stats.produced), measured.per_batch(stats.blocks)
    )
    rate = metrics.token_rate(counts, seconds)
    values: dict[str, Any] = {
        "method": method.name,
        "tree": method.tree,
        "draft_length": passes,
        "target_budget": method.drafter.shape.num_nodes - 1,
        "num_prompts": len(measured.tokens),
        "tokens": int(counts.sum()),
        "produced": int(stats.produced.sum()),
        "blocks": int(stats.blocks.sum()),
        "block_efficiency": efficiency,
        "block_efficiency_interval": efficiency_ends,
        "seconds": float(seconds.sum()),
        "token_rate": rate,
        "token_rate_interval": metrics.bootstrap_interval(counts, seconds),
        "accepted_depths": stats.accepted_depths.sum(axis=0).tolist(),
        "accepted_ranks": stats.accepted_ranks.sum(axis=0).tolist(),
        "compile_time": measured.compile_time,
    }
    if ratio is not None or passes == 0:
        r = ratio.r if ratio is not None else 0.0
        values["mbsu"] = metrics.mbsu(efficiency, r, passes)
        low, high = (metrics.mbsu(end, r, passes) for end in efficiency_ends)
        values["mbsu_interval"] = (low, high)
    if baseline is not None:
        base = _tokens_per_batch(baseline), baseline.seconds
        values["token_rate_ratio"] = rate / metrics.token_rate(*base)
        interval = metrics.bootstrap_interval(counts, seconds, base=base)
        values["token_rate_ratio_interval"] = interval
    return values


def _tokens_per_batch(measured: Measured) -> np.ndarray:
    return measured.per_batch(np.asarray([len(row) for row in measured.tokens]))


def _bytes_ratio(target: LoadedModel, draft: LoadedModel | None) -> BytesRatio | None:
    """Costs of a draft pass; None for models whose size is not known."""
    if draft is None or not isinstance(target.model, LlamaModel):
        return None
    if not isinstance(draft.model, LlamaModel):
        return None
    small, large = draft.model.config, target.model.config
    read = metrics.read_bytes_ratio(
        small, large, draft_dtype=draft.model.dtype, target_dtype=target.model.dtype
    )
    return BytesRatio(r=metrics.parameter_ratio(small, large), r_bytes=read)
