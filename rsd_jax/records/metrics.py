"""Metrics of a run: block efficiency, MBSU, token rates, bytes, intervals.

Pure functions of counts, seconds and shapes; definitions from Leviathan et al. 2023 and Jeon et
al. 2024. L is the number of draft passes of a block, for any width of the tree. For
autoregressive decoding L is 0, and block efficiency and MBSU are 1.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from rsd_jax.errors import ConfigError

Interval = tuple[float, float]
"""Lower and upper end."""

_BYTES = {"float32": 4, "bfloat16": 2, "float64": 8}


class Sizes(Protocol):
    """Sizes of a model, e.g. a `LlamaConfig`."""

    @property
    def num_parameters(self) -> int: ...

    @property
    def num_parameters_read(self) -> int: ...


def block_efficiency(produced: np.ndarray | int, blocks: np.ndarray | int) -> float:
    """Tokens produced per target call, tau: a ratio of sums over all rows.

    Args:
      produced: int[B] or a total; a block that exceeds max_new_tokens counts whole.
      blocks: int[B] or a total, target calls.

    Returns:
      at least 1 if any block ran, else NaN.
    """
    return _ratio(float(np.sum(produced)), float(np.sum(blocks)))


def parameter_ratio(draft: Sizes | None, target: Sizes) -> float:
    """r, parameters of the draft over parameters of the target, as in the papers."""
    return draft.num_parameters / target.num_parameters if draft is not None else 0.0


def read_bytes_ratio(
    draft: Sizes | None,
    target: Sizes,
    *,
    draft_dtype: str = "float32",
    target_dtype: str = "float32",
) -> float:
    """r_bytes: bytes of weights that a draft pass reads over those of a target pass.

    The input embedding is left out, as a pass gathers only a few rows; a tied head is read whole.

    Raises:
      ConfigError: a dtype is not known.
    """
    if draft is None:
        return 0.0
    return weight_bytes(draft, draft_dtype) / weight_bytes(target, target_dtype)


def weight_bytes(model: Sizes, dtype: str) -> int:
    """Bytes of weights that one forward pass reads, without the gathered input embedding.

    Raises:
      ConfigError: the dtype is not known.
    """
    return model.num_parameters_read * _itemsize(dtype)


def block_bytes(target_bytes: int, draft_bytes: int, draft_passes: int) -> int:
    """Bytes of weights that a block reads: one target pass and L draft passes."""
    return target_bytes + draft_passes * draft_bytes


def mbsu(efficiency: float, ratio: float, draft_passes: int) -> float:
    """Memory-bound speed-up, tau / (1 + r L).

    The speed-up over autoregressive decoding if the cost of a pass is reading its weights, and
    nothing else costs time.

    Args:
      efficiency: block efficiency, tau.
      ratio: r or r_bytes, cost of a draft pass in target passes.
      draft_passes: L.

    >>> mbsu(3.0, 0.25, 4)  # four passes of a quarter each double the cost of a block
    1.5
    """
    return efficiency / (1.0 + ratio * draft_passes)


def token_rate(tokens: np.ndarray | int, seconds: np.ndarray | float) -> float:
    """Tokens per second, a ratio of sums; `tokens` are the tokens that the user gets."""
    return _ratio(float(np.sum(tokens)), float(np.sum(seconds)))


def realised_fraction(t_ar: float, t_block: float, ratio: float, draft_passes: float) -> float:
    """(t_AR / t_block) (1 + r L): measured speed-up over MBSU; the block efficiency cancels out.

    Args:
      t_ar: seconds per step of autoregressive decoding.
      t_block: seconds per block of the method.
      ratio: r.
      draft_passes: L, or the mean of L if it varies.
    """
    return _ratio(t_ar, t_block) * (1.0 + ratio * draft_passes)


def bootstrap_interval(
    numerator: np.ndarray,
    denominator: np.ndarray,
    *,
    base: tuple[np.ndarray, np.ndarray] | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of sum(numerator) / sum(denominator) over resampled prompts.

    Args:
      numerator: [P], a number per prompt, e.g. tokens.
      denominator: [P], e.g. blocks or seconds.
      base: numerator and denominator of a baseline on the same prompts; the interval is then of
        the ratio over the baseline's ratio, and paired: a resample takes the same prompts for both.
      level: coverage.
      resamples: number of bootstrap samples.
      seed: seed of the resampling.

    Returns:
      lower and upper end.

    Raises:
      ConfigError: the arrays are empty or differ in length.
    """
    arrays = [np.asarray(a, np.float64) for a in (numerator, denominator, *(base or ()))]
    prompts = arrays[0].size
    if prompts == 0 or any(a.shape != (prompts,) for a in arrays):
        shapes = [a.shape for a in arrays]
        raise ConfigError(f"one number per prompt is needed everywhere; got shapes {shapes}")
    weights = resampled(prompts, resamples=resamples, seed=seed)
    sums = [weights @ a for a in arrays]
    ratios = sums[0] / sums[1]
    if base is not None:
        ratios = ratios / (sums[2] / sums[3])
    return percentile_ends(ratios, level=level)


def resampled(prompts: int, *, resamples: int = 2000, seed: int = 0) -> np.ndarray:
    """i64[resamples, P]: how often each bootstrap sample takes each prompt."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(prompts, np.full(prompts, 1 / prompts), size=resamples)


def percentile_ends(values: Sequence[float] | np.ndarray, *, level: float = 0.95) -> Interval:
    """Ends of the percentile interval of bootstrapped values."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _ratio(above: float, below: float) -> float:
    return above / below if below else float("nan")


def _itemsize(dtype: str) -> int:
    if dtype not in _BYTES:
        raise ConfigError(f"dtype={dtype!r} is not known; choose one of {sorted(_BYTES)}")
    return _BYTES[dtype]
