"""A loaded pair together with the encoded prompts of each task."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from rsd_jax.core.identity import row_digest
from rsd_jax.core.types import LoadedModel
from rsd_jax.engine.decoding import required_capacity
from rsd_jax.errors import ConfigError
from rsd_jax.evaluation.prompts import Encoded, encode, greedy_answers, with_follow_ups
from rsd_jax.evaluation.sweep.definition import Sweep
from rsd_jax.models.loading import ends_of
from rsd_jax.tasks.base import Task
from rsd_jax.tasks.prompts import Prompt
from rsd_jax.text.chat import ChatOptions


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
    """A loaded pair with a task's prompts, and their names in the sweep.

    Attributes:
      sweep: the settings.
      pair, task_name: names in the rows.
      task: the task with the pair's template.
      models: the pair.
      encoded: prompts that fit the models.
      ends: ids that end an answer.
      weights_sha256: see `row_digest`.
      capacity: positions of the caches.
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
"""A task with the pair's template, and its prompts (first turns only)."""


def read_tasks(sweep: Sweep, pair: str) -> dict[str, Asked]:
    """Reads the prompts of all tasks for a pair, by the tasks' names in the settings.

    Tasks whose cells are done are read too, so that a resumed sweep uses the same cache capacity.

    Raises:
      ConfigError: see `get_task` and `Task.test_prompts`; or `follow_ups` is set for a task
        without later turns.
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
    """The subjects by task; all have one capacity, so that a method is compiled once for all.

    Args:
      sweep: the settings.
      models: the loaded pair.
      pair: name of the pair in the settings.
      asked: from `read_tasks`.

    Raises:
      ConfigError: neither model nor tokenizer has an end-of-sequence token; prompts cannot be
        encoded, see `encode_prompts`.
    """
    ends = ends_of(models.target, models.tokenizer)
    weights = row_digest(*(m for m in (models.target, models.draft) if m is not None))
    chat = sweep.pairs[pair].chat
    encoded = {name: _encoded(sweep, models, name, *asked[name], ends, chat) for name in asked}
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
    sweep: Sweep,
    models: Pair,
    name: str,
    task: Task,
    prompts: list[Prompt],
    ends: tuple[int, ...],
    chat: ChatOptions,
) -> Encoded:
    settings = sweep.tasks[name]
    fit = functools.partial(
        encode,
        tokenizer=models.tokenizer,
        target=models.target,
        draft=models.draft,
        max_new_tokens=settings.max_new_tokens,
        parse_special=settings.parse_special,
        chat=chat,
    )

    def answer(prompts: Sequence[Prompt]) -> dict[str, str]:
        asked = fit(prompts)
        if not asked.tokens:
            return {}
        sampling, size = settings.at(0.0, eos_ids=ends), sweep.batch_size
        said = greedy_answers(models.target, models.tokenizer, asked.tokens, sampling, size)
        return dict(zip((prompt.name for prompt in asked.prompts), said, strict=True))

    return fit(with_follow_ups(task, prompts, answer) if settings.follow_ups else prompts)
