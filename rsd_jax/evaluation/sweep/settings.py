"""What a configuration says of a pair, of a task, and of the time it takes."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from rsd_jax.engine.request import SharedSampling
from rsd_jax.errors import ConfigError, positive_integer
from rsd_jax.tasks import get_task
from rsd_jax.tasks.base import Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairSource:
    """Where a pair is.

    Attributes:
      shipped: name of a pair that ships with the package, or "" for one from disk.
      target, draft: Hugging Face directories, for a pair from disk; no draft for methods that
        draft with the target.
      adapter: directory of a low-rank adapter of the target from disk, or "".
      dtype: of parameters and caches.
      template: of the prompts of tasks that have templates, e.g. "base" or "chat".
    """

    shipped: str = ""
    target: str = ""
    draft: str = ""
    adapter: str = ""
    dtype: str = "float32"
    template: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskSettings(SharedSampling):
    """Prompts of a task and how they are decoded.

    Attributes:
      num_prompts: the first so many.
      max_new_tokens, top_k, top_p: see `Sampling`.
      temperatures: each is a cell of its own; 0 is greedy.
      task: in `rsd_jax.tasks`; "" if the settings carry its name.
      category: of a task that has categories.
      path: of a local file to read instead of the data set.
      data_dir: where tensorflow-datasets keeps data sets; null for its default.
      metric: of prompts of your own, see `jsonl_task`.
      follow_ups: whether the later turns of conversations are prompts as well; what was answered
        before is what the target answers greedily, the same for every method.
    """

    num_prompts: int
    temperatures: list[float]
    task: str = ""
    category: str | None = None
    path: str | None = None
    data_dir: str | None = None
    metric: str | None = None
    follow_ups: bool = False

    def as_task(self, name: str, template: str | None) -> Task:
        """The task, with what is set handed on.

        Args:
          name: of the settings, which is the task's unless they say otherwise.
          template: of the pair that it is put to.

        Raises:
          ConfigError: see `get_task`.
        """
        given = {
            "template": template,
            "category": self.category,
            "path": self.path,
            "data_dir": self.data_dir,
            "metric": self.metric,
        }
        return get_task(self.task or name, **{key: value for key, value in given.items() if value})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """What to expect before anything was measured; rows that exist are believed instead.

    Attributes:
      compile_seconds: per cell.
      tokens_per_second: of any method, batch included.
    """

    compile_seconds: float
    tokens_per_second: float


def check_pair(name: str, source: PairSource) -> None:
    """Raises `ConfigError` unless it is said where the pair is, in one way; names the key."""
    if bool(source.shipped) == bool(source.target):
        raise ConfigError(
            f"{name}: give either `shipped`, the name of a pair that ships, or `target`, the "
            f"target's directory, and `draft`; got {dataclasses.asdict(source)}"
        )
    if source.adapter and source.shipped:
        raise ConfigError(
            f"{name}: adapter={source.adapter!r} is for a target from disk; {source.shipped!r} "
            "comes as it is"
        )


def check_task(name: str, settings: TaskSettings) -> None:
    """Raises `ConfigError` for numbers out of range, naming the key."""
    positive_integer(f"tasks.{name}.num_prompts", settings.num_prompts)
    check_distinct(f"tasks.{name}.temperatures", settings.temperatures)
    for temperature in settings.temperatures:
        settings.at(temperature)


def check_distinct(name: str, values: Sequence[Any]) -> None:
    """Raises `ConfigError` if there are no values, or one is there twice: it would be one cell."""
    if not values:
        raise ConfigError(f"{name} is empty; give at least one")
    if len(set(values)) < len(values):
        raise ConfigError(f"{name}={list(values)} holds a value twice")
