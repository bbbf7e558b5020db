"""The block efficiency of a trained draft, measured by decoding prompts.

`evaluate` only estimates acceptance on held-out text, without decoding.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from tqdm import tqdm

from rsd_jax.core.types import LoadedModel
from rsd_jax.distillation.responses.identities import prompts_identity
from rsd_jax.engine.methods import Method
from rsd_jax.engine.request import Sampling
from rsd_jax.errors import ConfigError
from rsd_jax.evaluation.comparison import Measured, compare, steps
from rsd_jax.records import metrics

ALL_TASKS = "all"
"""The `task` of a row over the prompts of all tasks."""

TaskPrompts = Mapping[str, Sequence[Sequence[int]]]
"""Token ids of each task's prompts."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecodedRow:
    """One method on the prompts of one task, or of all; `dataclasses.asdict` is JSON.

    Attributes:
      task: name of the task, or `ALL_TASKS`.
      method: the caller's name for the method.
      temperature, max_new_tokens, seed: as in `generate`.
      prompts_sha256: hash of task names and tokens; equal if and only if the prompts are equal.
      num_prompts: prompts decoded.
      tokens: tokens that the user gets, cut at EOS and at max_new_tokens.
      produced: tokens of whole blocks, the numerator of the block efficiency.
      blocks: target calls.
      block_efficiency: produced / blocks.
      block_efficiency_interval: ends of the 95 % bootstrap interval over prompts; for `ALL_TASKS`
        the prompts of all tasks are resampled together.
      produced_by_prompt, blocks_by_prompt: the terms of both sums, in the order of the prompts.
    """

    task: str
    method: str
    temperature: float
    max_new_tokens: int
    seed: int
    prompts_sha256: str
    num_prompts: int
    tokens: int
    produced: int
    blocks: int
    block_efficiency: float
    block_efficiency_interval: tuple[float, float]
    produced_by_prompt: tuple[int, ...]
    blocks_by_prompt: tuple[int, ...]


def measure_decoding(
    target: LoadedModel,
    draft: LoadedModel | None,
    prompts: TaskPrompts,
    methods: Mapping[str, Method],
    sampling: Sampling,
    *,
    batch_size: int | None,
) -> list[DecodedRow]:
    """Decodes every prompt with every method, see `compare`.

    A prompt's request id is its index among the prompts of all tasks, for every method. With the
    same seed, all drafts thus decode the same prompts with the same random numbers.

    Args:
      target, draft: as in `generate`; draft None if no method needs one.
      prompts: token ids by task.
      methods: from `build_method`, by the names that the rows get.
      sampling: how the target samples.
      batch_size: rows decoded together; None for all. No draw depends on the batch size.

    Returns:
      for each method a row per task, in the order of `prompts`, and then the row of `ALL_TASKS`.

    Raises:
      ConfigError: there are no methods or no prompts, a task is called `ALL_TASKS`, or `generate`
        would refuse an argument; raised before anything is decoded.
      NonFiniteLogitsError: see `generate`.
    """
    if not methods or not prompts:
        raise ConfigError("measure_decoding needs at least one method and prompts of one task")
    if ALL_TASKS in prompts:
        raise ConfigError(f"a task cannot be called {ALL_TASKS!r}: this name means all tasks")
    if empty := [task for task, listed in prompts.items() if not listed]:
        raise ConfigError(f"{empty[0]!r} has no prompts; give at least one list of token ids")
    together = [ids for listed in prompts.values() for ids in listed]
    every, size = list(methods.values()), batch_size or len(together)
    # No remaining time, as steps of compiling and of decoding differ in length.
    bar_format = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"
    with tqdm(total=steps(every, together, size), disable=None, bar_format=bar_format) as bar:

        def progress(done: str) -> None:
            bar.set_postfix_str(done, refresh=False)
            bar.update()

        measured, _ = compare(every, target, draft, together, sampling, progress, batch_size=size)
    ends = np.cumsum([len(listed) for listed in prompts.values()])
    rows = []
    for name, one in zip(methods, measured, strict=True):
        for (task, own), end in zip(prompts.items(), ends, strict=True):
            chosen = slice(end - len(own), end)
            rows.append(_row(task, name, {task: own}, one, chosen, sampling))
        rows.append(_row(ALL_TASKS, name, prompts, one, slice(None), sampling))
    return rows


def _row(
    task: str,
    method: str,
    prompts: TaskPrompts,
    measured: Measured,
    chosen: slice,
    sampling: Sampling,
) -> DecodedRow:
    """The row of `prompts`; `chosen` are their places in `measured`."""
    produced, blocks = measured.stats.produced[chosen], measured.stats.blocks[chosen]
    named = {f"{name}/{i}": ids for name, listed in prompts.items() for i, ids in enumerate(listed)}
    return DecodedRow(
        task=task,
        method=method,
        prompts_sha256=prompts_identity(named)["sha256"],
        num_prompts=len(blocks),
        tokens=sum(map(len, measured.tokens[chosen])),
        produced=int(produced.sum()),
        blocks=int(blocks.sum()),
        block_efficiency=metrics.block_efficiency(produced, blocks),
        block_efficiency_interval=metrics.bootstrap_interval(produced, blocks),
        produced_by_prompt=tuple(produced.tolist()),
        blocks_by_prompt=tuple(blocks.tolist()),
        temperature=float(sampling.temperature),
        max_new_tokens=sampling.max_new_tokens,
        seed=int(sampling.seed),
    )


def ratio_interval(row: DecodedRow, base: DecodedRow) -> tuple[float, float]:
    """Ends of the 95 % interval of `row.block_efficiency / base.block_efficiency`.

    The interval is paired: a resample takes the same prompts of both rows, so that prompts that
    are hard for any draft do not widen it. The rows may be of two drafts or of two methods.

    Raises:
      ConfigError: prompts, temperature, max_new_tokens or seed differ.
    """
    for name in ("prompts_sha256", "temperature", "max_new_tokens", "seed"):
        values = getattr(row, name), getattr(base, name)
        if values[0] != values[1]:
            raise ConfigError(
                f"rows can be compared only on the same prompts and settings; {name} is "
                f"{values[0]!r} in one and {values[1]!r} in the other"
            )
    return metrics.bootstrap_interval(
        np.asarray(row.produced_by_prompt),
        np.asarray(row.blocks_by_prompt),
        base=(np.asarray(base.produced_by_prompt), np.asarray(base.blocks_by_prompt)),
    )
