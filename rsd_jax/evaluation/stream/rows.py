"""Result rows of a stream of prompts: two per instance, and one of the method over the stream."""

import dataclasses
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rsd_jax.core.types import LanguageModel
from rsd_jax.engine.methods import Method, build_method
from rsd_jax.evaluation.break_even import warn_if_far_below
from rsd_jax.evaluation.floors import kept_fraction
from rsd_jax.evaluation.stream.run import Instance
from rsd_jax.records.decoding import Decoding
from rsd_jax.records.parts import Search, Stream
from rsd_jax.records.rows import Row
from rsd_jax.search.trace import SEARCHING

# Values of a row that `whole_row` combines over the instances.
_SUMMED = (
    "produced",
    "blocks",
    "drafted",
    "tokens",
    "seconds",
    "mbsu",
    "accepted_depths",
    "accepted_ranks",
)


def instance_rows(
    instance: Instance,
    index: int,
    before: Sequence[tuple[Row, Row]],
    method: Method,
    model: LanguageModel,
    prompt_length: int,
    header: Callable[..., Mapping[str, Any]],
    skip_ratio: float,
) -> tuple[Row, Row]:
    """The rows of autoregressive decoding and of the method on one instance.

    Args:
      instance: from `run_stream`.
      index: place of the instance in the stream.
      before: the rows of the instances before this one.
      method: the method that was measured.
      model: the target.
      prompt_length: tokens of the prompt.
      header: maps a method to the header of its rows.
      skip_ratio: setting of the search.
    """
    tokens = len(instance.result.tokens[0])
    context = prompt_length + tokens // 2
    own, baseline = (
        (np.asarray([len(result.tokens[0])]), np.asarray([seconds]))
        for result, seconds in (
            (instance.result, instance.seconds),
            (instance.baseline, instance.baseline_seconds),
        )
    )
    rates = [sum(map(_rate, rows)) for rows in zip(*before, strict=True)] or [0.0, 0.0]
    overall = (rates[1] + instance.rate) / (rates[0] + instance.baseline_rate)
    base_row = Row(
        **header(build_method("ar"), context_length=context),
        decoding=Decoding.of(instance.baseline.stats, *baseline, baseline, mbsu=1.0),
        stream=Stream(instance=index, overall_ratio=1.0),
    )
    own_row = Row(
        **header(method, context_length=context),
        decoding=Decoding.of(
            instance.result.stats,
            *own,
            baseline,
            mbsu=_mbsu(model, instance),
            drafted=int(instance.result.stats.drafted.sum()),
        ),
        stream=Stream(instance=index, overall_ratio=overall),
        search=Search(
            skip_ratio=skip_ratio,
            kept_fraction=_kept(model, instance, context),
            matchness=instance.state.best_score,
            searching=None if instance.state.resting else instance.state.stopped is None,
            candidates=instance.trace.iterations,
            search_times={name: instance.trace.seconds[name] / tokens for name in SEARCHING},
        ),
    )
    return base_row, own_row


def _rate(row: Row) -> float:
    assert row.decoding is not None
    return row.decoding.token_rate


def whole_row(
    rows: Sequence[Row],
    phases: Sequence[Mapping[str, float]] | None,
    header: Mapping[str, Any],
) -> Row:
    """The row over all instances.

    Args:
      rows: rows of the method, one per instance.
      phases: from `phase_seconds`, or None.
      header: header of the method's rows.
    """
    by_instance = types.SimpleNamespace(
        **{name: np.asarray([row.value(name) for row in rows]) for name in _SUMMED}
    )
    produced, drafted, tokens = by_instance.produced, by_instance.drafted, by_instance.tokens
    cost = produced / by_instance.mbsu  # in target passes
    stream, search = rows[-1].stream, rows[-1].search
    assert stream is not None
    assert search is not None
    kept = sum((row.value("kept_fraction") or 0.0) * row.value("drafted") for row in rows)
    times, deviations = (None, None) if phases is None else _over_instances(phases)
    spent = [row.value("search_times") for row in rows]
    mbsu = float(produced.sum() / cost.sum())
    warn_if_far_below(rows[-1].method, rows[-1].tree, mbsu)
    return Row(
        **header,
        decoding=dataclasses.replace(
            Decoding.of(by_instance, tokens, by_instance.seconds),
            mbsu=mbsu,
            token_rate_ratio=stream.overall_ratio,
            drafted=int(drafted.sum()),
        ),
        stream=dataclasses.replace(
            stream, instance=None, token_phase_times=times, token_phase_deviations=deviations
        ),
        search=dataclasses.replace(
            search,
            kept_fraction=kept / float(drafted.sum()) if drafted.any() else None,
            candidates=sum(row.value("candidates") or 0 for row in rows),
            search_times={
                name: float(sum(n * each[name] for n, each in zip(tokens, spent, strict=True)))
                / int(tokens.sum())
                for name in SEARCHING
            }
            if all(spent)  # rows of an earlier commit may lack these times
            else None,
        ),
    )


def _over_instances(
    phases: Sequence[Mapping[str, float]],
) -> tuple[dict[str, float], dict[str, float]]:
    """Means and standard deviations, over instances, of seconds per token by phase."""
    columns = {name: np.asarray([spent[name] for spent in phases]) for name in phases[0]}
    means = {name: float(column.mean()) for name, column in columns.items()}
    columns["total"] = np.sum(list(columns.values()), axis=0)
    return means, {name: float(column.std()) for name, column in columns.items()}


def _mbsu(model: LanguageModel, instance: Instance) -> float:
    """Tokens over the cost of all passes in target passes, without the passes of the search."""
    cost = float(instance.result.stats.blocks.sum())
    for skipped, passes in instance.trace.draft_passes.items():
        cost += passes * kept_fraction(model, skipped)
    return int(instance.result.stats.produced.sum()) / cost


def _kept(model: LanguageModel, instance: Instance, context: int) -> float | None:
    """Mean kept fraction over the draft passes of an instance; None without draft passes."""
    passes = instance.trace.draft_passes
    total = sum(passes.values())
    if not total:
        return None
    kept = {skipped: kept_fraction(model, skipped, context=context) for skipped in passes}
    return sum(count * kept[skipped] for skipped, count in passes.items()) / total
