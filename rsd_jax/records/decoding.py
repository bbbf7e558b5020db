"""The part of a row about the decoding of prompts: counts, times, and metrics of both.

A metric of decoded prompts is a field of `Decoding` and a line in `Decoding.of`; to show it, add a
line to `rsd_jax.reporting.metrics.METRICS`.
"""

import dataclasses
from typing import Any, Protocol

import numpy as np

from rsd_jax.records import metrics
from rsd_jax.records.metrics import Interval

INTERVALS_OVER = ("prompts", "batches")


@dataclasses.dataclass(frozen=True, kw_only=True)
class BytesRatio:
    """Cost of a draft pass in target passes.

    Attributes:
      r: ratio of parameters, as in the papers.
      r_bytes: ratio of bytes read, without the input embedding.
    """

    r: float
    r_bytes: float


class Stats(Protocol):
    """Counts by prompt, as in `rsd_jax.engine.results.GenerateStats`.

    Each is int[P], the two histograms int[P, ·].
    """

    @property
    def blocks(self) -> np.ndarray: ...
    @property
    def produced(self) -> np.ndarray: ...
    @property
    def accepted_depths(self) -> np.ndarray: ...
    @property
    def accepted_ranks(self) -> np.ndarray: ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decoding:
    """Counts and rates of decoding prompts; the metrics are defined in `rsd_jax.records.metrics`.

    Rows of other engines have no counts of blocks.

    Attributes:
      num_prompts: prompts decoded.
      tokens: tokens that the user gets, cut at EOS and at max_new_tokens.
      seconds: time of decoding `tokens`, without compilation.
      prefill_timed: whether `seconds` includes the prefill.
      token_rate: tokens / seconds.
      token_rate_ratio: token rate over the token rate of autoregressive decoding in the same run.
      produced: tokens of whole blocks, the numerator of the block efficiency.
      blocks: target calls.
      drafted: draft passes, for methods whose blocks do not have one for each level of the tree.
      block_efficiency: produced / blocks.
      mbsu: block efficiency / (1 + r L).
      bytes_ratio: cost of a draft pass.
      *_interval: 95 % bootstrap intervals; paired for ratios to autoregressive decoding.
      intervals_over: what was resampled for rates: "prompts" (decoded one by one) or "batches", the
        prompts of one timed call.
        All other intervals are over prompts.
      call_tokens, call_seconds: `tokens` and `seconds` of each timed call. Rows of one run and task
        have the same calls in the same order, so any two methods can be paired.
      accepted_depths: number of blocks by accepted nodes, 0 to L.
      accepted_ranks: number of accepted nodes by rejected earlier siblings.
      compile_time: seconds for tracing and compiling, or for reading the compilation cache.
    """

    num_prompts: int
    tokens: int
    seconds: float
    prefill_timed: bool
    token_rate: float
    token_rate_interval: Interval | None = None
    token_rate_ratio: float | None = None
    token_rate_ratio_interval: Interval | None = None
    produced: int | None = None
    blocks: int | None = None
    drafted: int | None = None
    block_efficiency: float | None = None
    block_efficiency_interval: Interval | None = None
    mbsu: float | None = None
    mbsu_interval: Interval | None = None
    bytes_ratio: BytesRatio | None = None
    intervals_over: str | None = None
    call_tokens: list[int] | None = None
    call_seconds: list[float] | None = None
    accepted_depths: list[int] | None = None
    accepted_ranks: list[int] | None = None
    compile_time: float | None = None

    @classmethod
    def of(
        cls,
        stats: Stats,
        tokens: np.ndarray,
        seconds: np.ndarray,
        base: tuple[np.ndarray, np.ndarray] | None = None,
        **others: Any,
    ) -> "Decoding":
        """The part, from counts and times.

        Args:
          stats: counts of each prompt.
          tokens: int[calls], tokens that the user gets, by timed call.
          seconds: f64[calls], prefill included.
          base: tokens and seconds of autoregressive decoding in the same calls, if measured.
          others: all other fields.
        """
        rate = metrics.token_rate(tokens, seconds)
        ratios: dict[str, Any] = {}
        if base is not None:
            ratios["token_rate_ratio"] = rate / metrics.token_rate(*base)
            ratios["token_rate_ratio_interval"] = interval(tokens, seconds, base=base)
        return cls(
            num_prompts=len(stats.blocks),
            tokens=int(tokens.sum()),
            seconds=float(seconds.sum()),
            prefill_timed=True,
            token_rate=rate,
            token_rate_interval=interval(tokens, seconds),
            produced=int(stats.produced.sum()),
            blocks=int(stats.blocks.sum()),
            block_efficiency=metrics.block_efficiency(stats.produced, stats.blocks),
            block_efficiency_interval=interval(stats.produced, stats.blocks),
            intervals_over=INTERVALS_OVER[len(seconds) < len(stats.blocks)],
            call_tokens=tokens.tolist(),
            call_seconds=seconds.tolist(),
            accepted_depths=stats.accepted_depths.sum(axis=0).tolist(),
            accepted_ranks=stats.accepted_ranks.sum(axis=0).tolist(),
            **ratios | others,
        )


def interval(*arrays: np.ndarray, **options: Any) -> Interval | None:
    """`bootstrap_interval`; None for a single prompt or batch, which gives no interval."""
    return metrics.bootstrap_interval(*arrays, **options) if len(arrays[0]) > 1 else None
