"""The one schema of results: a row per measured cell.

A cell is (pair, task, method, tree, temperature, seed). Rows are written and read by `row_files`.
To extend the schema add a field with the default None to `Row` and say what it means there; rows
that lack it stay readable. Raise `SCHEMA_VERSION` where they are not, and with the first new field
after a release. Numbers are finite and not negative; what was not measured is null.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from rsd_jax.errors import ConfigError
from rsd_jax.records.hardware import Hardware
from rsd_jax.records.json_objects import build
from rsd_jax.records.metrics import Interval
from rsd_jax.version import __version__

SCHEMA_VERSION = 2
STATUSES = ("ok", "failed", "skipped")
INTERVALS_OVER = ("prompts", "batches")


@dataclasses.dataclass(frozen=True, kw_only=True)
class BytesRatio:
    """Cost of a draft pass in target passes.

    Attributes:
      r: by parameters, as the papers count.
      r_bytes: by bytes read, without the input embedding.
    """

    r: float
    r_bytes: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One measured cell; the metrics are defined in `rsd_jax.records.metrics`.

    Attributes:
      source: entry point that wrote the row, e.g. "quickstart".
      experiment: sweep that the row is a cell of, e.g. "experiment1"; null outside of one.
      pair: target and draft.
      task: where the prompts are from.
      template: how the task's text became prompts, e.g. "base", "chat"; null: as it is.
      method: "ar", "sd", "spectr", "rsd_c", "rsd_s", or an outside baseline.
      tree: in words: "4", "6x5", "2-2-1"; "-" without one.
      draft_length: L, draft passes per block; 0 for "ar".
      target_budget: nodes that the target scores per block besides the root.
      draft_temperature, draft_top_k: warp of the draft, where it is not the target's.
      temperature, top_k, top_p: warp of the target; temperature 0 is greedy.
      seed: of the draws.
      max_new_tokens: limit per prompt.
      batch_size: rows decoded together.
      dtype: of parameters and caches.
      mesh: sizes by axis name; null for one device.
      context_length: tokens of context where times were taken; null if it varies by prompt.
      status: "ok", "failed" or "skipped".
      message: why, unless "ok".
      num_prompts: prompts decoded.
      num_skipped: prompts left out because the model allows no such length.
      eos_ids: tokens that end an answer.
      prompts_sha256: of the prompts' tokens; equal if and only if the prompts are.
      references_sha256: of what the answers were scored against.
      weights_sha256: of some numbers of every parameter of target and draft; equal weights have
        equal ones.
      tokens: that the user gets: cut at EOS and at max_new_tokens.
      produced: tokens of whole blocks: numerator of the block efficiency.
      blocks: target calls.
      block_efficiency: produced / blocks.
      mbsu: block efficiency / (1 + r L).
      seconds: spent decoding `tokens`; never compilation.
      prefill_timed: whether `seconds` hold the prefill.
      token_rate: tokens / seconds.
      token_rate_ratio: token rate over that of autoregressive decoding in the same run.
      accuracy: value of `accuracy_metric`.
      accuracy_metric: e.g. "bleu", "rouge2".
      accuracy_signature: settings and version of the library that computed it.
      accuracy_ratio: accuracy over that of autoregressive decoding.
      *_interval: 95 % bootstrap intervals; of ratios paired with autoregressive decoding.
      intervals_over: what was resampled for rates: "prompts" (decoded one by one) or "batches";
        for everything else it is prompts.
      accepted_depths: blocks by number of accepted nodes, 0 to L.
      accepted_ranks: accepted nodes by siblings rejected before.
      phase_times: seconds per block by phase: "prefill", "draft", "score", "verify", "commit"; in
        rows of a stream seconds per token: "optimize", "draft", "verify", "others", of a run with
        a program for each.
      phase_deviations: standard deviations of `phase_times`, and of their sum as "total", over the
        instances of a stream.
      bytes_ratio: cost of a draft pass.
      t_ar: seconds per step of autoregressive decoding.
      t_block: seconds per block.
      t_draft: seconds per draft pass over one token per row.
      t_draft_ratio: those over the seconds of a target pass over one token, taken in turns.
      realised_fraction: (t_ar / t_block) (1 + r L).
      instance: place of the row's only prompt in a stream of prompts; null outside of one.
      overall_ratio: mean token rate of the instances up to this one over that of autoregressive
        decoding.
      drafted: draft steps, where a block has no fixed number of them.
      kept_fraction: bytes that a draft pass reads over those of a target pass, where the draft is
        the target with layers skipped.
      skip_ratio: of a search for layers to skip: the share of the inner sub-layers.
      matchness: the best so far of a search for layers to skip (Xia et al. 2025).
      searching: whether that search still went on after this instance; null if none was asked for.
      candidates: sets of layers that the search scored; their passes are in no other count.
      search_times: seconds per token that the search took: "suggest", "matchness" and "read" of
        `InstanceTrace.seconds`.
      compile_time: seconds for tracing and compiling, or for reading the compilation cache.
      config_hash: `config_hash` of the settings of the run; in a sweep, of those that its cells
        share, so that cells can be added.
      hardware: see `Hardware`.
      versions: by library.
    """

    source: str
    pair: str
    task: str
    method: str
    tree: str
    draft_length: int
    temperature: float
    seed: int
    hardware: Hardware
    versions: dict[str, str]
    schema_version: int = SCHEMA_VERSION
    status: str = "ok"
    message: str | None = None
    experiment: str | None = None
    template: str | None = None
    target_budget: int | None = None
    draft_temperature: float | None = None
    draft_top_k: int | None = None
    top_k: int | None = None
    top_p: float = 1.0
    max_new_tokens: int | None = None
    batch_size: int | None = None
    dtype: str | None = None
    mesh: dict[str, int] | None = None
    context_length: int | None = None
    num_prompts: int | None = None
    num_skipped: int = 0
    eos_ids: list[int] | None = None
    prompts_sha256: str | None = None
    references_sha256: str | None = None
    weights_sha256: str | None = None
    tokens: int | None = None
    produced: int | None = None
    blocks: int | None = None
    block_efficiency: float | None = None
    block_efficiency_interval: Interval | None = None
    mbsu: float | None = None
    mbsu_interval: Interval | None = None
    seconds: float | None = None
    prefill_timed: bool | None = None
    token_rate: float | None = None
    token_rate_interval: Interval | None = None
    token_rate_ratio: float | None = None
    token_rate_ratio_interval: Interval | None = None
    accuracy: float | None = None
    accuracy_interval: Interval | None = None
    accuracy_metric: str | None = None
    accuracy_signature: str | None = None
    accuracy_ratio: float | None = None
    accuracy_ratio_interval: Interval | None = None
    intervals_over: str | None = None
    accepted_depths: list[int] | None = None
    accepted_ranks: list[int] | None = None
    phase_times: dict[str, float] | None = None
    bytes_ratio: BytesRatio | None = None
    t_ar: float | None = None
    t_block: float | None = None
    realised_fraction: float | None = None
    phase_deviations: dict[str, float] | None = None
    instance: int | None = None
    overall_ratio: float | None = None
    drafted: int | None = None
    kept_fraction: float | None = None
    skip_ratio: float | None = None
    matchness: float | None = None
    searching: bool | None = None
    candidates: int | None = None
    search_times: dict[str, float] | None = None
    t_draft: float | None = None
    t_draft_ratio: float | None = None
    compile_time: float | None = None
    config_hash: str | None = None


def validate(values: Mapping[str, Any]) -> Row:
    """Makes a row of decoded JSON.

    Raises:
      ConfigError: another schema version, or a field that is unknown, missing or malformed; the
        field is named.
    """
    version = values.get("schema_version")
    if version != SCHEMA_VERSION:
        raise ConfigError(
            f"field 'schema_version' is {version!r}, but rsd_jax {__version__} reads and writes "
            f"version {SCHEMA_VERSION}; write to a new file, or use the rsd_jax that wrote this one"
        )
    row: Row = build(Row, values)
    if row.status not in STATUSES:
        raise ConfigError(f"field 'status' is {row.status!r}; expected one of {list(STATUSES)}")
    if row.intervals_over not in (None, *INTERVALS_OVER):
        raise ConfigError(
            f"field 'intervals_over' is {row.intervals_over!r}; expected one of "
            f"{list(INTERVALS_OVER)} or null"
        )
    for name, value in vars(row).items():
        if name.endswith("_interval") and value is not None and value[0] > value[1]:
            raise ConfigError(f"field {name!r} is {list(value)}; the lower end comes first")
    return row


def config_hash(settings: Mapping[str, Any]) -> str:
    """16 hexadecimal digits that depend on the settings and not on their order."""
    text = json.dumps(settings, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
