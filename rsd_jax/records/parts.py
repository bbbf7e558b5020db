"""The other parts of rows: what was measured besides the decoding of prompts."""

import dataclasses

from rsd_jax.records.metrics import Interval


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scores:
    """How good the answers are.

    Attributes:
      accuracy: value of `accuracy_metric`.
      accuracy_metric: e.g. "bleu", "rouge2".
      accuracy_signature: settings and version of the library that computed it.
      accuracy_ratio: accuracy over that of autoregressive decoding; null where that is 0.
      *_interval: 95 % bootstrap intervals over prompts; of the ratio paired.
    """

    accuracy: float
    accuracy_metric: str
    accuracy_interval: Interval | None = None
    accuracy_signature: str | None = None
    accuracy_ratio: float | None = None
    accuracy_ratio_interval: Interval | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Timing:
    """Times of a block, each phase a program of its own.

    Attributes:
      phase_times: seconds per block by phase: "prefill", "draft", "score", "verify", "commit", and
        "forwards", the model passes of a block alone.
      t_ar: seconds per step of autoregressive decoding.
      t_block: seconds per block, as one program.
      realised_fraction: (t_ar / t_block) (1 + r L).
    """

    phase_times: dict[str, float]
    t_ar: float
    t_block: float
    realised_fraction: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stream:
    """Where a row stands in a stream of prompts, decoded one after the other.

    Attributes:
      instance: place of the row's only prompt; null in the row of the whole stream.
      overall_ratio: mean token rate of the instances up to this one over that of autoregressive
        decoding.
      token_phase_times: seconds per token: "optimize", "draft", "verify", "others", of a run with
        a program for each; in the row of the whole stream.
      token_phase_deviations: standard deviations of those over the instances, and of their sum as
        "total".
    """

    overall_ratio: float
    instance: int | None = None
    token_phase_times: dict[str, float] | None = None
    token_phase_deviations: dict[str, float] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Search:
    """A search for sub-layers to skip while drafting (Xia et al. 2025).

    Attributes:
      matchness: the best so far.
      searching: whether the search still went on after this instance; null if none was asked for.
      skip_ratio: share of the inner sub-layers that a set skips.
      kept_fraction: bytes that a draft pass reads over those of a target pass, a mean over the
        draft passes.
      candidates: sets that were scored; their passes are in no other count.
      search_times: seconds per token that the search took: "suggest", "matchness" and "read" of
        `InstanceTrace.seconds`.
    """

    matchness: float
    searching: bool | None = None
    skip_ratio: float | None = None
    kept_fraction: float | None = None
    candidates: int | None = None
    search_times: dict[str, float] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class SkippedPass:
    """A pass of the target over one token per row, with sub-layers skipped.

    Attributes:
      kept_fraction: bytes that the pass reads over those of the whole pass.
      t_draft: seconds of the pass.
      t_draft_ratio: those over the seconds of the whole pass, taken in turns.
    """

    kept_fraction: float
    t_draft: float
    t_draft_ratio: float
