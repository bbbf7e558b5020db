"""What a trained draft is worth when it decodes: its block efficiency, measured on prompts.

`evaluate` estimates acceptance on held-out text; here tokens are decoded.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from rsd_jax.core.types import LoadedModel
from rsd_jax.distillation.responses.identities import prompts_identity
from rsd_jax.engine.methods import Method
from rsd_jax.engine.request import Sampling
from rsd_jax.errors import ConfigError
from rsd_jax.evaluation.comparison import Measured, compare
from rsd_jax.records import metrics

ALL_TASKS = "all"
"""The `task` of a row over the prompts of all tasks."""

TaskPrompts = Mapping[str, Sequence[Sequence[int]]]
"""Token ids of each task's prompts."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecodedRow:
    """One method on the prompts of one task, or of all; `dataclasses.asdict` is JSON.

    Attributes:
      task: name, or `ALL_TASKS`.
      method: the name that the caller gave it.
      temperature, max_new_tokens, seed: as in `generate`.
      prompts_sha256: of names of tasks and tokens; equal if and only if the prompts are the same.
      num_prompts: prompts decoded.
      tokens: that the user gets: cut at EOS and at max_new_tokens.
      produced: tokens of whole blocks: numerator of the block efficiency.
      blocks: target calls.
      block_efficiency: produced / blocks.
      block_efficiency_interval: ends of the 95 % bootstrap interval over prompts; over all tasks
        the prompts are resampled together.
      produced_by_prompt, blocks_by_prompt: what the sums are of, in the order of the prompts.
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

    A prompt's request id is its place among the prompts of all tasks, for every method, so that
    with one seed another draft meets the same prompts under the same random numbers.

    Args:
      target, draft: as in `generate`; draft None if no method needs one.
      prompts: token ids by task.
      methods: from `build_method`, by the names that the rows get.
      sampling: of the target.
      batch_size: rows decoded together; None for all. No draw depends on it.

    Returns:
      method by method, a row per task in the order of `prompts` and then the one of `ALL_TASKS`.

    Raises:
      ConfigError: there are no methods or no prompts, a task is called `ALL_TASKS`, or `generate`
        would refuse an argument; nothing has been decoded yet.
      NonFiniteLogitsError: see `generate`.
    """
    if not methods or not prompts:
        raise ConfigError("measure_decoding needs at least one method and the prompts of one task")
    if ALL_TASKS in prompts:
        raise ConfigError(f"a task cannot be called {ALL_TASKS!r}: that is all of them together")
    if empty := [task for task, listed in prompts.items() if not listed]:
        raise ConfigError(f"{empty[0]!r}: prompts is empty; give at least one list of token ids")
    together = [ids for listed in prompts.values() for ids in listed]
    size = batch_size or len(together)
    measured, _ = compare(
        list(methods.values()), target, draft, together, sampling, batch_size=size
    )
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
    """The row of the chosen prompts, which are those of `prompts`."""
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
    """Ends of the 95 % interval of `row`'s block efficiency over that of `base`.

    Paired: a resample takes the same prompts of both, so that prompts that are hard for any draft
    do not count. Meant for two drafts with one method; two methods can be compared as well.

    Raises:
      ConfigError: prompts, temperature, limit or seed are not the same.
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
