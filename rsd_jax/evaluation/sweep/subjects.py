"""A loaded pair with the prompts of each task, ready to be measured."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from rsd_jax.core.identity import row_digest
from rsd_jax.core.types import LoadedModel
from rsd_jax.engine.decoding import required_capacity
from rsd_jax.errors import ConfigError
from rsd_jax.evaluation.prompts import (
    Encoded,
    encode,
    ends_of,
    greedy_answers,
    with_follow_ups,
)
from rsd_jax.evaluation.sweep.definition import Sweep
from rsd_jax.tasks.base import Task
from rsd_jax.tasks.prompts import Prompt


class Pair(Protocol):
    """A target, its draft and a transformers tokenizer; `rsd_jax.LoadedPair` is one."""

    @property
    def target(self) -> LoadedModel: ...
    @property
    def draft(self) -> LoadedModel | None: ...
    @property
    def tokenizer(self) -> Any: ...


@dataclasses.dataclass(frozen=True)
class Subject:
    """A loaded pair with a task's prompts, and where it stands in a sweep.

    Attributes:
      sweep: the settings.
      pair, task_name: names in the rows.
      task: with its template.
      models: the pair.
      encoded: prompts that fit.
      ends: ids that end an answer.
      weights_sha256: see `row_digest`.
      capacity: of the caches.
    """

    sweep: Sweep
    pair: str
    task_name: str
    task: Task
    models: Pair
    encoded: Encoded
    ends: tuple[int, ...]
    weights_sha256: str
    capacity: int


Asked = tuple[Task, list[Prompt]]
"""A task as it is put to a pair, and its prompts, first turns alone."""


def read_tasks(sweep: Sweep, pair: str) -> dict[str, Asked]:
    """Reads what the tasks ask a pair, by their names in the settings.

    Tasks whose cells are done are among them: a sweep that goes on decodes in the same caches.

    Raises:
      ConfigError: see `get_task` and `Task.test_prompts`; or later turns are asked for where there
        are none.
    """
    asked = {}
    for name, settings in sweep.tasks.items():
        task = sweep.task(pair, name)
        if settings.follow_ups and task.follow is None:
            raise ConfigError(
                f"tasks.{name}.follow_ups: the task has no later turns; leave it at False"
            )
        asked[name] = task, task.test_prompts(settings.num_prompts)
    return asked


def subjects_of(
    sweep: Sweep, models: Pair, pair: str, asked: Mapping[str, Asked]
) -> dict[str, Subject]:
    """By task; all have one capacity, so that a method is compiled once for all of them.

    Args:
      sweep: the settings.
      models: what `pair` names.
      pair: name in the settings.
      asked: from `read_tasks`.

    Raises:
      ConfigError: nothing ends an answer.
    """
    ends = ends_of(models.target, models.tokenizer)
    weights = row_digest(*(m for m in (models.target, models.draft) if m is not None))
    encoded = {name: _encoded(sweep, models, name, *asked[name], ends) for name in asked}
    methods = list(sweep.methods().values())
    needed = [
        required_capacity(method.drafter, longest, sweep.tasks[task].max_new_tokens)
        for task, prompts in encoded.items()
        if (longest := max(map(len, prompts.tokens), default=0))
        for method in methods
    ]
    return {
        name: Subject(
            sweep=sweep,
            pair=pair,
            task_name=name,
            task=asked[name][0],
            models=models,
            encoded=prompts,
            ends=ends,
            weights_sha256=weights,
            capacity=max(needed, default=1),
        )
        for name, prompts in encoded.items()
    }


def _encoded(
    sweep: Sweep, models: Pair, name: str, task: Task, prompts: list[Prompt], ends: tuple[int, ...]
) -> Encoded:
    settings = sweep.tasks[name]
    fit = functools.partial(
        encode,
        tokenizer=models.tokenizer,
        target=models.target,
        draft=models.draft,
        max_new_tokens=settings.max_new_tokens,
        chat=task.template == "chat",
    )

    def answer(prompts: Sequence[Prompt]) -> dict[str, str]:
        asked = fit(prompts)
        if not asked.tokens:
            return {}
        sampling, size = settings.at(0.0, eos_ids=ends), sweep.batch_size
        said = greedy_answers(models.target, models.tokenizer, asked.tokens, sampling, size)
        return dict(zip((prompt.name for prompt in asked.prompts), said, strict=True))

    return fit(with_follow_ups(task, prompts, answer) if settings.follow_ups else prompts)
