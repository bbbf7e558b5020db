"""Result rows of a stream: two per instance, and one of the method over all of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rsd_jax.core.types import LanguageModel
from rsd_jax.engine.methods import Method
from rsd_jax.engine.results import GenerateResult
from rsd_jax.evaluation.floors import kept_fraction
from rsd_jax.evaluation.stream.run import Instance
from rsd_jax.records import metrics
from rsd_jax.records.rows import Row
from rsd_jax.search.trace import SEARCHING

SOURCE = "stream"


def instance_rows(
    instance: Instance,
    index: int,
    before: Sequence[tuple[Row, Row]],
    method: Method,
    model: LanguageModel,
    prompt_length: int,
    shared: Mapping[str, Any],
) -> tuple[Row, Row]:
    """The rows of autoregressive decoding and of the method on one instance.

    Args:
      instance: from `run_stream`.
      index: its place.
      before: the rows of the instances before it.
      method: that was measured.
      model: the target's.
      prompt_length: tokens of the prompt.
      shared: fields of all rows: pair, task, sampling, hardware, ...
    """
    tokens = len(instance.result.tokens[0])
    context = prompt_length + tokens // 2
    rates = sum((row.token_rate or 0.0 for _, row in before), instance.rate)
    base_rates = sum((row.token_rate or 0.0 for row, _ in before), instance.baseline_rate)
    baseline = Row(
        **_counted(instance.baseline, instance.baseline_seconds),
        method="ar",
        tree="-",
        draft_length=0,
        instance=index,
        context_length=context,
        mbsu=1.0,
        token_rate_ratio=1.0,
        overall_ratio=1.0,
        **dict(shared, skip_ratio=None),
    )
    own = Row(
        **_counted(instance.result, instance.seconds),
        **_drafting(method),
        instance=index,
        context_length=context,
        mbsu=_mbsu(model, instance),
        token_rate_ratio=instance.rate / instance.baseline_rate,
        overall_ratio=rates / base_rates,
        drafted=int(instance.result.stats.drafted.sum()),
        kept_fraction=_kept(model, instance, context),
        matchness=instance.state.best_score,
        searching=None if instance.state.resting else instance.state.stopped is None,
        candidates=instance.trace.iterations,
        search_times={name: instance.trace.seconds[name] / tokens for name in SEARCHING},
        **shared,
    )
    return baseline, own


def whole_row(
    rows: Sequence[Row],
    phases: Sequence[Mapping[str, float]] | None,
    method: Method,
    shared: Mapping[str, Any],
) -> Row:
    """The row over all instances.

    Args:
      rows: the method's, one per instance.
      phases: from `phase_seconds`, or None.
      method, shared: as for `instance_rows`.
    """
    counts = {
        name: np.asarray([getattr(row, name) for row in rows])
        for name in ("produced", "blocks", "drafted", "tokens", "seconds", "mbsu")
    }
    total = {name: column.sum() for name, column in counts.items()}
    cost = counts["produced"] / counts["mbsu"]  # in target passes
    pair = counts["produced"], counts["blocks"]
    last = rows[-1]
    kept = sum((row.kept_fraction or 0.0) * (row.drafted or 0) for row in rows)
    times, deviations = (None, None) if phases is None else _over_instances(phases)
    return Row(
        **_drafting(method),
        num_prompts=len(rows),
        tokens=int(total["tokens"]),
        produced=int(total["produced"]),
        blocks=int(total["blocks"]),
        drafted=int(total["drafted"]),
        seconds=float(total["seconds"]),
        prefill_timed=True,
        block_efficiency=metrics.block_efficiency(*pair),
        block_efficiency_interval=metrics.bootstrap_interval(*pair) if len(rows) > 1 else None,
        mbsu=float(total["produced"] / cost.sum()),
        token_rate=metrics.token_rate(counts["tokens"], counts["seconds"]),
        token_rate_ratio=last.overall_ratio,
        overall_ratio=last.overall_ratio,
        kept_fraction=kept / float(total["drafted"]) if total["drafted"] else None,
        accepted_depths=_added([row.accepted_depths or [] for row in rows]),
        accepted_ranks=_added([row.accepted_ranks or [] for row in rows]),
        candidates=sum(row.candidates or 0 for row in rows),
        search_times=_per_token(rows),
        matchness=last.matchness,
        searching=last.searching,
        phase_times=times,
        phase_deviations=deviations,
        **shared,
    )


def _per_token(rows: Sequence[Row]) -> dict[str, float] | None:
    """What the search took over all instances, in seconds per token; None if one does not tell."""
    if any(row.search_times is None for row in rows):
        return None
    tokens = sum(row.tokens or 0 for row in rows)
    return {
        name: sum((row.search_times or {}).get(name, 0.0) * (row.tokens or 0) for row in rows)
        / tokens
        for name in SEARCHING
    }


def _over_instances(
    phases: Sequence[Mapping[str, float]],
) -> tuple[dict[str, float], dict[str, float]]:
    """Means and standard deviations, over instances, of seconds per token by phase."""
    columns = {name: np.asarray([spent[name] for spent in phases]) for name in phases[0]}
    means = {name: float(column.mean()) for name, column in columns.items()}
    columns["total"] = np.sum(list(columns.values()), axis=0)
    return means, {name: float(column.std()) for name, column in columns.items()}


def _added(histograms: Sequence[Sequence[int]]) -> list[int]:
    return np.sum(histograms, axis=0).tolist()


def _drafting(method: Method) -> dict[str, Any]:
    return {
        "method": method.name,
        "tree": method.tree,
        "draft_length": method.drafter.shape.depth,
        "target_budget": method.drafter.max_nodes - 1,
        "draft_temperature": method.draft_temperature,
        "draft_top_k": method.draft_top_k,
    }


def _counted(result: GenerateResult, seconds: float) -> dict[str, Any]:
    tokens, stats = len(result.tokens[0]), result.stats
    return {
        "num_prompts": 1,
        "tokens": tokens,
        "produced": int(stats.produced.sum()),
        "blocks": int(stats.blocks.sum()),
        "block_efficiency": stats.block_efficiency,
        "accepted_depths": stats.accepted_depths.sum(axis=0).tolist(),
        "accepted_ranks": stats.accepted_ranks.sum(axis=0).tolist(),
        "seconds": seconds,
        "prefill_timed": True,
        "token_rate": tokens / seconds,
    }


def _mbsu(model: LanguageModel, instance: Instance) -> float:
    """Tokens over target passes and what the draft passes cost in them; the search is apart."""
    cost = float(instance.result.stats.blocks.sum())
    for skipped, passes in instance.trace.draft_passes.items():
        cost += passes * kept_fraction(model, skipped)
    return int(instance.result.stats.produced.sum()) / cost


def _kept(model: LanguageModel, instance: Instance, context: int) -> float | None:
    """Mean over the draft passes of an instance; None if there was none."""
    passes = instance.trace.draft_passes
    total = sum(passes.values())
    if not total:
        return None
    kept = {skipped: kept_fraction(model, skipped, context=context) for skipped in passes}
    return sum(count * kept[skipped] for skipped, count in passes.items()) / total
