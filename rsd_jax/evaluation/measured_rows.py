"""Result rows: the header of every kind of row, and the parts that `comparison` measured."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from rsd_jax.core.skips import start_set
from rsd_jax.core.types import LanguageModel, LoadedModel
from rsd_jax.drafters import WithLookup
from rsd_jax.engine.methods import Method
from rsd_jax.engine.request import Sampling
from rsd_jax.evaluation.break_even import warn_if_far_below
from rsd_jax.evaluation.comparison import Measured, PeerRun
from rsd_jax.evaluation.floors import kept_fraction
from rsd_jax.evaluation.timing import BlockTimes
from rsd_jax.records import metrics
from rsd_jax.records.decoding import BytesRatio, Decoding, interval
from rsd_jax.records.hardware import Hardware, current_versions
from rsd_jax.records.parts import Timing
from rsd_jax.records.rows import FILTERS, Row, config_hash, own_verifier


def header(
    target: LoadedModel | None,
    method: Method | None = None,
    /,
    *,
    draft: LoadedModel | None = None,
    sampling: Sampling | None = None,
    **others: Any,
) -> dict[str, Any]:
    """The fields of a row that are known before anything is measured, for every kind of row.

    Args:
      target: gives dtype and mesh; None where no model of ours is measured.
      method: the method that is measured, if it is one of ours.
      draft: the draft model, if there is one.
      sampling: how the method decodes; None where nothing is drawn: temperature 0 and seed 0.
      others: all other fields: source, kind, pair, task, ...
    """
    fields: dict[str, Any] = {
        "temperature": 0.0,
        "seed": 0,
        "hardware": Hardware.current(),
        "versions": current_versions(),
    }
    if target is not None:
        mesh = dict(target.layout.mesh.shape) if target.layout else None
        fields |= {"dtype": target.model.dtype, "mesh": mesh}
    fields |= _origins(target=target, draft=draft)
    if method is not None:
        fields |= {
            "method": method.name,
            "verifier": method.verifier_name,
            "tree": method.tree,
            "draft_length": method.drafter.shape.depth,
            "target_budget": method.drafter.max_nodes - 1,
            "draft_temperature": method.draft_temperature,
            "draft_top_k": method.draft_top_k,
        }
    if sampling is not None:
        fields |= {
            "temperature": float(sampling.temperature),
            **{name: getattr(sampling, name) for name in FILTERS},
            "seed": sampling.seed,
            "max_new_tokens": sampling.max_new_tokens,
        }
    return fields | others


def _origins(**models: LoadedModel | None) -> dict[str, Any]:
    """The fields that say where weights without a path came from."""
    found = {
        name: loaded.origin
        for name, loaded in models.items()
        if loaded is not None and loaded.origin is not None
    }
    return {
        "weights_from": {name: origin.name for name, origin in found.items()} or None,
        "weights_files_sha256": {name: origin.sha256 for name, origin in found.items()} or None,
    }


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
    """Result rows with intervals over prompts, and with ratios to "ar" if "ar" was measured.

    Args:
      measured: from `compare`, with the same models and sampling.
      source, pair, task: fields of the rows.
    """
    settings = sampling.settings() | {
        "methods": [_identity(m.method) for m in measured],
        "pair": pair,
        "task": task,
    }
    shared = {
        "source": source,
        "kind": "decoding",
        "pair": pair,
        "task": task,
        "batch_size": measured[0].batch_size,
        "config_hash": config_hash(settings),
    }
    return [
        Row(**header(target, one.method, draft=draft, sampling=sampling, **shared), decoding=part)
        for one, part in zip(measured, decoding_parts(measured, target, draft), strict=True)
    ]


def _identity(method: Method) -> list[str]:
    """Names of a method for the settings' hash; without a default verifier, as in earlier files."""
    names = [method.name, method.tree]
    own = method.verifier_name == own_verifier(method.name)
    return names if own else [*names, method.verifier_name]


def decoding_parts(
    measured: Sequence[Measured], target: LoadedModel, draft: LoadedModel | None
) -> list[Decoding]:
    """What `compare` measured, with the same models, as parts of rows."""
    baseline = next((m for m in measured if m.method.name == "ar"), None)
    base = (_tokens_per_call(baseline), baseline.seconds) if baseline is not None else None
    ratio = bytes_ratio(target, draft)
    return [
        Decoding.of(
            one.stats,
            _tokens_per_call(one),
            one.seconds,
            base,
            compile_time=one.compile_time,
            **_draft_cost(one, ratio, target.model),
        )
        for one in measured
    ]


def _draft_cost(
    measured: Measured, ratio: BytesRatio | None, target: LanguageModel
) -> dict[str, Any]:
    """The cost of drafting in target passes, and the MBSU that follows from this cost."""
    stats, drafter = measured.stats, measured.method.drafter
    if drafter.needs_skips:
        ratio = _skipping_ratio(target)
    passes = drafter.draft_passes
    if passes is None:
        # Of a tree with a merged chain only the depth is counted, and not the passes.
        counted = None if isinstance(drafter, WithLookup) else stats.drafted
    else:
        counted = passes * stats.blocks
    values: dict[str, Any] = {"bytes_ratio": ratio}
    if counted is not None and (drafter.needs_skips or passes != drafter.shape.depth):
        values["drafted"] = int(counted.sum())
    if counted is None or (ratio is None and counted.any()):
        return values
    cost = stats.blocks + (ratio.r if ratio is not None else 0.0) * counted
    values |= {
        "mbsu": metrics.block_efficiency(stats.produced, cost),
        "mbsu_interval": interval(stats.produced, cost),
    }
    if drafter.needs_skips:
        warn_if_far_below(measured.method.name, measured.method.tree, values["mbsu"])
    return values


def _skipping_ratio(target: LanguageModel) -> BytesRatio | None:
    """The cost of a pass with the first skip set in target passes; None without sizes."""
    if target.sizes is None:
        return None
    attentions, mlps = start_set(target.num_layers).sum(axis=0).tolist()
    r = kept_fraction(target, (attentions, mlps))
    return BytesRatio(r=r, r_bytes=r)


def _tokens_per_call(measured: Measured) -> np.ndarray:
    return measured.per_call(np.asarray([len(row) for row in measured.tokens]))


def bytes_ratio(target: LoadedModel, draft: LoadedModel | None) -> BytesRatio | None:
    """The cost of a draft pass in target passes; None for models without sizes."""
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
      row: the row of a method, with its `decoding`.
      times: times of the same method.
      baseline: times of autoregressive decoding, measured in turns with `times`.
      context: tokens of the longest prompt of the batch that was timed.
    """
    part = row.decoding
    assert part is not None
    r = part.bytes_ratio.r if part.bytes_ratio is not None else 0.0
    passes = row.draft_length if part.drafted is None else part.drafted / (part.blocks or 1)
    timing = timing_part(times, baseline, r, passes)
    return dataclasses.replace(row, timing=timing, context_length=context)


def timing_part(times: BlockTimes, baseline: BlockTimes, r: float, passes: float) -> Timing:
    """The times of a block and its phases.

    Args:
      times: of the method.
      baseline: of autoregressive decoding, measured in turns with `times`.
      r: cost of a draft pass in target passes.
      passes: draft passes per block, a mean if their number varies.
    """
    phases = {
        name: seconds
        for name in ("prefill", "draft", "score", "verify", "commit", "forwards")
        if (seconds := getattr(times, name)) is not None
    }
    return Timing(
        phase_times=phases,
        t_ar=baseline.block,
        t_block=times.block,
        realised_fraction=metrics.realised_fraction(baseline.block, times.block, r, passes),
    )


def peer_row(run: PeerRun, baseline: Row) -> Row:
    """A peer's rate as a result row, without the fields that describe our engine.

    Args:
      run: the peer on the prompts of `baseline`.
      baseline: row of autoregressive decoding by our engine.
    """
    assert baseline.decoding is not None
    shared = ("source", "kind", "pair", "task", "temperature", "seed", "hardware")
    seconds = float(np.sum(run.seconds))
    rate = run.tokens / seconds
    return Row(
        **{name: getattr(baseline, name) for name in (*shared, "max_new_tokens", "batch_size")},
        versions=current_versions(*run.peer.libraries),
        method=run.peer.name,
        tree=str(run.peer.draft_length) if run.peer.draft_length else "-",
        draft_length=run.peer.draft_length,
        dtype="float32",
        decoding=Decoding(
            num_prompts=baseline.decoding.num_prompts,
            tokens=run.tokens,
            seconds=seconds,
            prefill_timed=True,
            token_rate=rate,
            token_rate_ratio=rate / baseline.decoding.token_rate,
        ),
    )
