"""Decoding prompts: `generate` and `stream`."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rsd_jax.batching import Batch, check_models, check_prompts, eos_array, split
from rsd_jax.decoding import DecodeOptions, Engine, advance, prefill
from rsd_jax.drafters.base import ModelParams, Models
from rsd_jax.errors import ConfigError, NonFiniteLogitsError
from rsd_jax.methods import Method
from rsd_jax.results import (
    FINISH_EOS,
    FINISH_ERROR,
    FINISH_LENGTH,
    GenerateResult,
    GenerateStats,
    join_stats,
)
from rsd_jax.sampling import make_warp
from rsd_jax.sharding import MeshLayout
from rsd_jax.state import DecodeState
from rsd_jax.types import NEVER, LanguageModel, Params

_UNLIMITED = np.int32(2**31 - 1)


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """A language model with its parameters.

    Attributes:
      model: static.
      params: placed on the devices of `layout`.
      layout: the mesh it lives on, or None for one device.
    """

    model: LanguageModel
    params: Params
    layout: MeshLayout | None = None


@dataclasses.dataclass(frozen=True)
class _Job:
    """A checked request: what every batch of it shares."""

    engine: Engine
    params: ModelParams
    options: DecodeOptions
    batches: list[Batch]
    seed: np.generic


def _prepare(
    method: Method,
    target: LoadedModel,
    draft: LoadedModel | None,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    temperature: float,
    top_k: int | None,
    top_p: float,
    seed: int,
    request_ids: Sequence[int] | None,
    eos_id: int | Sequence[int] | None,
    batch_size: int | None,
) -> _Job:
    """Checks everything before anything runs."""
    if not isinstance(method, Method):
        raise ConfigError(f"method must come from build_method(name, ...); got {method!r}")
    draft_model = draft.model if draft is not None else None
    check_models(method, target.model, draft_model)
    if not method.drafter.needs_draft_model:
        draft, draft_model = None, None
    used = [target.model] + ([draft_model] if draft_model is not None else [])
    check_prompts(prompts, max_new_tokens, used)
    if not 0 <= seed < 2**32:
        raise ConfigError(f"seed={seed} must lie in [0, 2**32)")
    if draft is not None and draft.layout != target.layout:
        raise ConfigError("target and draft live on different meshes; load both with the same one")
    options = DecodeOptions(
        target_warp=make_warp(temperature, top_k, top_p),
        draft_warp=method.draft_warp(temperature, top_k, top_p),
        max_new_tokens=jnp.asarray(max_new_tokens, jnp.int32),
        eos_ids=jnp.asarray(eos_array(eos_id, target.model.vocab_size)),
    )
    batches = split(
        prompts,
        request_ids,
        batch_size,
        method=method,
        max_new_tokens=max_new_tokens,
        multiple=target.layout.data_shards if target.layout else 1,
    )
    engine = Engine(
        models=Models(target=target.model, draft=draft_model),
        drafter=method.drafter,
        verifier=method.verifier,
        layout=target.layout,
    )
    params = ModelParams(target=target.params, draft=draft.params if draft else None)
    return _Job(engine, params, options, list(batches), np.uint32(seed))


def _start(job: _Job, batch: Batch) -> DecodeState:
    arrays = (batch.tokens, batch.prompt_length, job.seed, batch.request_ids)
    return prefill(job.engine, job.params, *map(jnp.asarray, arrays))


def _read(state: DecodeState) -> dict[str, Any]:
    """The one host read: everything that a result needs, in one transfer."""
    names = ("tokens", "prompt_length", "end", "done", "hit_eos", "failed_block", "stats")
    return jax.device_get({name: getattr(state, name) for name in names})


def _result(read: dict[str, Any], rows: int) -> GenerateResult:
    tokens = [
        read["tokens"][row, read["prompt_length"][row] : read["end"][row]].tolist()
        for row in range(rows)
    ]
    reasons = [
        FINISH_ERROR if read["failed_block"][row] != NEVER
        else FINISH_EOS if read["hit_eos"][row] else FINISH_LENGTH
        for row in range(rows)
    ]  # fmt: skip
    counts = {
        field.name: getattr(read["stats"], field.name)[:rows]
        for field in dataclasses.fields(GenerateStats)
    }
    lengths = np.asarray([len(row) for row in tokens], np.int32)
    return GenerateResult(tokens, lengths, reasons, GenerateStats(**counts))


def _join(results: list[GenerateResult]) -> GenerateResult:
    return GenerateResult(
        tokens=[row for result in results for row in result.tokens],
        num_tokens=np.concatenate([result.num_tokens for result in results]),
        finish_reason=[reason for result in results for reason in result.finish_reason],
        stats=join_stats([result.stats for result in results]),
    )


def _failures(read: dict[str, Any], batch: Batch) -> dict[int, int]:
    failed = read["failed_block"][: batch.rows]
    return {batch.first + int(row): int(failed[row]) for row in np.flatnonzero(failed != NEVER)}


def generate(
    method: Method,
    target: LoadedModel,
    draft: LoadedModel | None,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    seed: int = 0,
    request_ids: Sequence[int] | None = None,
    eos_id: int | Sequence[int] | None = None,
    batch_size: int | None = None,
) -> GenerateResult:
    """Decodes prompts; the output has exactly the target's law, whatever the draft.

    Args:
      method: from `build_method`.
      target: from `load_model`.
      draft: likewise, with the target's vocabulary; None for methods without a draft model.
      prompts: lists of token ids; lengths may differ.
      max_new_tokens: at least 1.
      temperature: 0 is greedy; top_k and top_p are then ignored.
      top_k: keeps the k most likely tokens, ties with the k-th kept; None for all.
      top_p: keeps the most likely tokens whose mass reaches top_p; in (0, 1].
      seed: a row's draws come from (seed, request id) alone: not from its batch, its place in
        it, or the other rows.
      request_ids: one per prompt, by default 0, 1, 2, ...
      eos_id: token id or ids that end a row; None never stops early.
      batch_size: rows decoded together; None for all. The last batch is padded.

    Returns:
      new tokens, finish reasons and counts; one host read per batch.

    Raises:
      ConfigError: an argument cannot be used; nothing has run yet.
      NonFiniteLogitsError: some rows met logits that are no law; the error carries what all
        rows produced.
    """
    job = _prepare(
        method, target, draft, prompts,
        max_new_tokens=max_new_tokens, temperature=temperature, top_k=top_k, top_p=top_p,
        seed=seed, request_ids=request_ids, eos_id=eos_id, batch_size=batch_size,
    )  # fmt: skip
    results: list[GenerateResult] = []
    failures: dict[int, int] = {}
    for batch in job.batches:
        state = advance(job.engine, job.params, _start(job, batch), job.options, _UNLIMITED)
        read = _read(state)
        results.append(_result(read, batch.rows))
        failures |= _failures(read, batch)
    result = _join(results)
    if failures:
        raise NonFiniteLogitsError(failures, result)
    return result


def stream(
    method: Method,
    target: LoadedModel,
    draft: LoadedModel | None,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    seed: int = 0,
    request_ids: Sequence[int] | None = None,
    eos_id: int | Sequence[int] | None = None,
    batch_size: int | None = None,
    blocks_per_step: int = 4,
) -> Iterator[tuple[int, list[int]]]:
    """`generate`, handing out tokens as they come; the same tokens, the same arguments.

    Args:
      blocks_per_step: blocks between two host reads.

    Yields:
      (row, new tokens of that row since its last turn).

    Raises:
      as `generate`; arguments are checked when `stream` is called, not at the first token.
    """
    if not isinstance(blocks_per_step, int) or blocks_per_step < 1:
        raise ConfigError(f"blocks_per_step={blocks_per_step!r} must be an integer of at least 1")
    job = _prepare(
        method, target, draft, prompts,
        max_new_tokens=max_new_tokens, temperature=temperature, top_k=top_k, top_p=top_p,
        seed=seed, request_ids=request_ids, eos_id=eos_id, batch_size=batch_size,
    )  # fmt: skip
    return _stream(job, blocks_per_step)


def _stream(job: _Job, blocks_per_step: int) -> Iterator[tuple[int, list[int]]]:
    results: list[GenerateResult] = []
    failures: dict[int, int] = {}
    for batch in job.batches:
        state = _start(job, batch)
        shown = batch.prompt_length.copy()
        while True:
            state = advance(job.engine, job.params, state, job.options, np.int32(blocks_per_step))
            read = _read(state)
            for row in range(batch.rows):
                new = read["tokens"][row, shown[row] : read["end"][row]].tolist()
                shown[row] = read["end"][row]
                if new:
                    yield batch.first + row, new
            if read["done"].all():
                break
        results.append(_result(read, batch.rows))
        failures |= _failures(read, batch)
    if failures:
        raise NonFiniteLogitsError(failures, _join(results))
