"""Result rows of what `comparison` measured."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from rsd_jax.core.skips import start_set
from rsd_jax.core.types import LanguageModel, LoadedModel
from rsd_jax.engine.request import Sampling
from rsd_jax.evaluation.comparison import Measured, PeerRun
from rsd_jax.evaluation.floors import kept_fraction
from rsd_jax.evaluation.timing import BlockTimes
from rsd_jax.records import metrics
from rsd_jax.records.hardware import Hardware, current_versions
from rsd_jax.records.rows import BytesRatio, Row, config_hash


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
    settings = sampling.settings() | {
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
        "dtype": target.model.dtype,
        "mesh": dict(target.layout.mesh.shape) if target.layout else None,
        "hardware": Hardware.current(),
        "versions": current_versions(),
        "bytes_ratio": ratio,
        "prefill_timed": True,
        "intervals_over": "prompts" if measured[0].batch_size == 1 else "batches",
        "config_hash": config_hash(settings),
    }
    return [Row(**(shared | _measurements(m, baseline, ratio, target.model))) for m in measured]


def _measurements(
    measured: Measured, baseline: Measured | None, ratio: BytesRatio | None, target: LanguageModel
) -> dict[str, Any]:
    """The fields of a row that differ from method to method."""
    method, stats, seconds = measured.method, measured.stats, measured.seconds
    counts = _tokens_per_batch(measured)
    passes = method.drafter.shape.depth
    efficiency = stats.block_efficiency
    efficiency_ends = _interval(stats.produced, stats.blocks)
    rate = metrics.token_rate(counts, seconds)
    values: dict[str, Any] = {
        "method": method.name,
        "tree": method.tree,
        "draft_length": passes,
        "target_budget": method.drafter.max_nodes - 1,
        "num_prompts": len(measured.tokens),
        "tokens": int(counts.sum()),
        "produced": int(stats.produced.sum()),
        "blocks": int(stats.blocks.sum()),
        "block_efficiency": efficiency,
        "block_efficiency_interval": efficiency_ends,
        "seconds": float(seconds.sum()),
        "token_rate": rate,
        "token_rate_interval": _interval(counts, seconds),
        "accepted_depths": stats.accepted_depths.sum(axis=0).tolist(),
        "accepted_ranks": stats.accepted_ranks.sum(axis=0).tolist(),
        "compile_time": measured.compile_time,
    }
    if method.drafter.needs_skips:
        values |= _self_drafting(measured, target)
    elif ratio is not None or passes == 0:
        r = ratio.r if ratio is not None else 0.0
        values["mbsu"] = metrics.mbsu(efficiency, r, passes)
        if efficiency_ends is not None:
            low, high = (metrics.mbsu(end, r, passes) for end in efficiency_ends)
            values["mbsu_interval"] = (low, high)
    if baseline is not None:
        base = _tokens_per_batch(baseline), baseline.seconds
        values["token_rate_ratio"] = rate / metrics.token_rate(*base)
        values["token_rate_ratio_interval"] = _interval(counts, seconds, base=base)
    return values


def _self_drafting(measured: Measured, target: LanguageModel) -> dict[str, Any]:
    """Of a method that drafts with the target, its first skip set: draft passes as they were."""
    drafted = measured.stats.drafted
    values: dict[str, Any] = {"drafted": int(drafted.sum()), "bytes_ratio": None}
    if target.sizes is not None:
        attentions, mlps = start_set(target.num_layers).sum(axis=0).tolist()
        r = kept_fraction(target, (attentions, mlps))
        cost = measured.stats.blocks + r * drafted
        values |= {
            "bytes_ratio": BytesRatio(r=r, r_bytes=r),
            "mbsu": metrics.block_efficiency(measured.stats.produced, cost),
            "mbsu_interval": _interval(measured.stats.produced, cost),
        }
    return values


def _interval(*arrays: np.ndarray, **options: Any) -> metrics.Interval | None:
    """`bootstrap_interval`; None for a single prompt or batch, of which there is nothing to say."""
    return metrics.bootstrap_interval(*arrays, **options) if len(arrays[0]) > 1 else None


def _tokens_per_batch(measured: Measured) -> np.ndarray:
    return measured.per_batch(np.asarray([len(row) for row in measured.tokens]))


def _bytes_ratio(target: LoadedModel, draft: LoadedModel | None) -> BytesRatio | None:
    """Costs of a draft pass; None for models whose size is not known."""
    large, small = target.model.sizes, None if draft is None else draft.model.sizes
    if draft is None or small is None or large is None:
        return None
    read = metrics.read_bytes_ratio(
        small, large, draft_dtype=draft.model.dtype, target_dtype=target.model.dtype
    )
    return BytesRatio(r=metrics.parameter_ratio(small, large), r_bytes=read)


def with_times(row: Row, times: BlockTimes, baseline: BlockTimes, context: int) -> Row:
    """The row with the times of a block and its phases.

    Args:
      row: of a method.
      times: of that method.
      baseline: of autoregressive decoding, taken in turns with them.
      context: tokens of the longest prompt of the batch that was timed.
    """
    r = row.bytes_ratio.r if row.bytes_ratio is not None else 0.0
    passes = row.draft_length if row.drafted is None else row.drafted / (row.blocks or 1)
    phases = {
        name: seconds
        for name in ("prefill", "draft", "score", "verify", "commit", "forwards")
        if (seconds := getattr(times, name)) is not None
    }
    return dataclasses.replace(
        row,
        phase_times=phases,
        t_ar=baseline.block,
        t_block=times.block,
        realised_fraction=metrics.realised_fraction(baseline.block, times.block, r, passes),
        context_length=context,
    )


def peer_row(run: PeerRun, baseline: Row) -> Row:
    """A peer's rate in the schema; what describes our engine is left out.

    Args:
      run: on the prompts of `baseline`.
      baseline: autoregressive decoding by our engine.
    """
    assert baseline.token_rate is not None
    seconds = float(np.sum(run.seconds))
    rate = run.tokens / seconds
    return Row(
        source=baseline.source,
        pair=baseline.pair,
        task=baseline.task,
        method=run.peer.name,
        tree=str(run.peer.draft_length) if run.peer.draft_length else "-",
        draft_length=run.peer.draft_length,
        temperature=baseline.temperature,
        seed=baseline.seed,
        hardware=baseline.hardware,
        versions=baseline.versions,
        max_new_tokens=baseline.max_new_tokens,
        batch_size=baseline.batch_size,
        dtype="float32",
        num_prompts=baseline.num_prompts,
        tokens=run.tokens,
        seconds=seconds,
        prefill_timed=True,
        token_rate=rate,
        token_rate_ratio=rate / baseline.token_rate,
    )
