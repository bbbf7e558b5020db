"""Parts of rows that are only fields; parts that compute their fields are modules of their own."""

import dataclasses

from rsd_jax.records.metrics import Interval


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of the answers.

    Attributes:
      accuracy: value of `accuracy_metric`.
      accuracy_metric: e.g. "bleu", "rouge2".
      accuracy_signature: settings and version of the library that computed the accuracy.
      accuracy_ratio: accuracy over that of autoregressive decoding; null if the latter is 0.
      *_interval: 95 % bootstrap intervals over prompts; the interval of the ratio is paired.
    """

    accuracy: float
    accuracy_metric: str
    accuracy_interval: Interval | None = None
    accuracy_signature: str | None = None
    accuracy_ratio: float | None = None
    accuracy_ratio_interval: Interval | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Timing:
    """Times of a block and of its phases as separate programs.

    Attributes:
      phase_times: seconds per block by phase: "prefill", "draft", "score", "verify", "commit", and
        "forwards", only the model passes of a block.
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
    """A row's place in a stream of prompts, which are decoded one after the other.

    Attributes:
      instance: index of the row's only prompt; null in the row of the whole stream.
      overall_ratio: mean token rate of the instances up to this one over the mean token rate of
        autoregressive decoding.
      token_phase_times: seconds per token of "optimize", "draft", "verify" and "others", from a
        run with a program for each phase; only in the row of the whole stream.
      token_phase_deviations: standard deviations of these times over the instances, and of their
        sum as "total".
    """

    overall_ratio: float
    instance: int | None = None
    token_phase_times: dict[str, float] | None = None
    token_phase_deviations: dict[str, float] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Search:
    """A search for sub-layers to skip while drafting (Xia et al. 2025).

    Attributes:
      matchness: the best matchness so far.
      searching: whether the search went on after this instance; null if there was no search.
      skip_ratio: fraction of the inner sub-layers that a set skips.
      kept_fraction: bytes that a draft pass reads over bytes that a target pass reads, a mean over
        the draft passes.
      candidates: sets that were scored; the passes of scoring are in no other count.
      search_times: seconds per token of the search: "suggest", "matchness" and "read" of
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
      kept_fraction: bytes that the pass reads over bytes that the whole pass reads.
      t_draft: seconds of the pass.
      t_draft_ratio: seconds of the pass over seconds of the whole pass, measured in turns.
    """

    kept_fraction: float
    t_draft: float
    t_draft_ratio: float
