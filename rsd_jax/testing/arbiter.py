"""Decides whether two runs that should agree differ by a numerical tie or by a defect.

In float32 the logits of one context differ by about 1e-5 between passes of different widths. Two
correct runs can therefore differ where a decision is that close. Random draws are float32 for all
models, so the same runs in float64 use the same draws and must agree.
"""

import warnings
from collections.abc import Callable, Sequence

import jax
import numpy as np

from rsd_jax.core.types import LoadedModel
from rsd_jax.engine.results import GenerateResult
from rsd_jax.evaluation.divergence import Divergence, first_divergences, margin
from rsd_jax.testing.tiny_llama import in_float64

Run = Callable[[LoadedModel, LoadedModel | None], GenerateResult]


class NumericalTieWarning(UserWarning):
    """Two runs differ in float32 at a tie, and agree in float64."""


def first_divergence(
    first: GenerateResult, second: GenerateResult, *, blocks: bool = False
) -> Divergence | None:
    """Compares tokens row by row, and block counts if `blocks`; None if there is no difference."""
    found = list(first_divergences(first.tokens, second.tokens))
    if blocks:
        counts = np.flatnonzero(first.stats.blocks != second.stats.blocks).tolist()
        found += [Divergence(row, -1, (None, None)) for row in counts]
    return min(found, key=lambda one: (one.row, one.index < 0), default=None)


def assert_same(
    first: Run,
    second: Run,
    target: LoadedModel,
    draft: LoadedModel | None,
    prompts: Sequence[Sequence[int]],
    *,
    blocks: bool = False,
) -> GenerateResult:
    """Asserts that two runs give the same tokens; repeats runs that differ in float64.

    Args:
      first, second: functions that decode `prompts` with the given models.
      target, draft: Llamas in float32.
      prompts: prompts, for the report.
      blocks: whether block counts must agree too.

    Returns:
      the first result.

    Raises:
      AssertionError: the runs differ in float64 too; reports the first difference and its margin.

    Warns:
      NumericalTieWarning: the runs differ only in float32; the report is the same.
    """
    one, two = first(target, draft), second(target, draft)
    found = first_divergence(one, two, blocks=blocks)
    if found is None:
        return one
    report = _report(found, one, target, prompts)
    with jax.enable_x64(True):
        wide = (in_float64(target), None if draft is None else in_float64(draft))
        again = first_divergence(first(*wide), second(*wide), blocks=blocks)
    if again is not None:
        raise AssertionError(f"{report}; the runs differ in float64 too, at {again}: a defect")
    warnings.warn(f"{report}; the runs agree in float64", NumericalTieWarning, stacklevel=2)
    return one


def _report(
    found: Divergence, result: GenerateResult, target: LoadedModel, prompts: Sequence[Sequence[int]]
) -> str:
    if found.index < 0:
        return f"row {found.row}: the same tokens in a different number of blocks"
    prefix = [*prompts[found.row], *result.tokens[found.row][: found.index]]
    return (
        f"row {found.row} differs at new token {found.index}: {found.tokens[0]} against "
        f"{found.tokens[1]}; the target's top-2 logit margin there is {margin(target, prefix):.2e}"
    )
