"""The settings of a pair, of a task and of expected times, as configurations hold them."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from rsd_jax.engine.request import SharedSampling
from rsd_jax.errors import ConfigError, positive_integer
from rsd_jax.models.pairs import SOURCES, check_pair_name
from rsd_jax.tasks import get_task
from rsd_jax.tasks.base import Task
from rsd_jax.text.chat import CHAT_DATE, ChatOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairSource:
    """Where a pair is.

    Attributes:
      shipped: name of a pair of `load_pair`, or "" for a pair of your own.
      source: where the target of a pair of `load_pair` is, if its models do not ship; or "".
      target, draft: the models of a pair of your own, each as `path` of `load_model`: a directory,
        a GGUF file or a name on the Hub. Methods that draft with the target need no draft. A pair
        of `load_pair` may take a draft too, if none ships.
      adapter: directory of a low-rank adapter for the target of a pair of your own, or "".
      tokenizer: as `path` of `load_tokenizer`; "" for that of the target's folder or file.
      share_tokens: whether the draft has another tokenizer, which its folder or file holds; it then
        proposes only tokens of both tokenizers, see `rsd_jax.share_tokens`.
      replicate_draft: on a mesh, `replicated` of `load_model` for the draft.
      dtype: dtype of parameters and caches.
      template: template of the prompts, e.g. "base" or "chat", for tasks that have templates.
      chat_template_kwargs: variables of the tokenizer's chat template, e.g. enable_thinking.
      chat_date: the date that a chat template prints instead of today's, see `ChatOptions`.
    """

    shipped: str = ""
    source: str = ""
    target: str = ""
    draft: str = ""
    adapter: str = ""
    tokenizer: str = ""
    share_tokens: bool = False
    replicate_draft: bool = False
    dtype: str = "float32"
    template: str | None = None
    chat_template_kwargs: dict[str, Any] = dataclasses.field(default_factory=dict)
    chat_date: str = CHAT_DATE

    @property
    def chat(self) -> ChatOptions:
        """Options for the tokenizer's chat template."""
        return ChatOptions(kwargs=self.chat_template_kwargs, date=self.chat_date)

    def hashed(self) -> dict[str, Any]:
        """What the hash of a run's settings covers: options for prompts and drafts that are set."""
        changed: dict[str, Any] = {
            "chat_template_kwargs": self.chat_template_kwargs,
            "share_tokens": self.share_tokens,
            "replicate_draft": self.replicate_draft,
        }
        if self.chat_date != CHAT_DATE:
            changed["chat_date"] = self.chat_date
        return {name: value for name, value in changed.items() if value}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskSettings(SharedSampling):
    """Prompts of a task and how they are decoded.

    Attributes:
      num_prompts: how many prompts, from the first unless `spread` is set.
      max_new_tokens, top_k, top_p: see `Sampling`.
      temperatures: each is measured in its own cell; 0 is greedy.
      task: name of the task in `rsd_jax.tasks`; "" if the key of the settings is this name.
      category: one category or several, for a task that has categories.
      spread: for such a task, whether the prompts are taken evenly over all its questions.
      path: local file to read instead of the data set.
      data_dir: directory of tensorflow-datasets; null for its default.
      metric: for prompts of your own, see `jsonl_task`.
      parse_special: whether the names of special tokens in a prompt become these tokens, for
        prompts that a chat template has rendered already.
      follow_ups: whether the later turns of conversations are prompts too; the answers before
        them are the target's greedy answers, the same for every method.
    """

    num_prompts: int
    temperatures: list[float]
    task: str = ""
    category: str | list[str] | None = None
    spread: bool = False
    path: str | None = None
    data_dir: str | None = None
    metric: str | None = None
    parse_special: bool = False
    follow_ups: bool = False

    def as_task(self, name: str, template: str | None) -> Task:
        """The task with these settings.

        Args:
          name: key of the settings; the name of the task unless `task` is set.
          template: template of the pair.

        Raises:
          ConfigError: see `get_task`.
        """
        given: dict[str, Any] = {
            "template": template,
            "category": self.category,
            "spread": self.spread,
            "path": self.path,
            "data_dir": self.data_dir,
            "metric": self.metric,
        }
        return get_task(self.task or name, **{key: value for key, value in given.items() if value})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """Expected times before anything is measured; once there are rows, their times are used.

    Attributes:
      compile_seconds: seconds of compiling per cell.
      tokens_per_second: rate of any method, summed over the batch.
    """

    compile_seconds: float
    tokens_per_second: float


def check_pair(name: str, source: PairSource) -> None:
    """Checks the settings of a pair, in which exactly one place must be given.

    Raises:
      ConfigError: the settings are bad; names the key.
    """
    if bool(source.shipped) == bool(source.target):
        raise ConfigError(
            f"{name}: give either `shipped`, the name of a pair that ships, or `target`, the "
            f"target's directory, and `draft`; got {dataclasses.asdict(source)}"
        )
    for key, other in (("adapter", "shipped"), ("tokenizer", "shipped"), ("source", "target")):
        if getattr(source, key) and getattr(source, other):
            raise ConfigError(
                f"{name}: {key}={getattr(source, key)!r} does not go with "
                f"{other}={getattr(source, other)!r}; leave it out"
            )
    if source.share_tokens and not source.draft:
        raise ConfigError(f"{name}: share_tokens=True needs a draft; set `draft`, or leave it out")
    if source.shipped in SOURCES:
        try:
            check_pair_name(source.shipped, source.source)
        except ConfigError as error:
            raise ConfigError(f"{name}: {error}") from None
    try:
        _ = source.chat
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None


def check_task(name: str, settings: TaskSettings) -> None:
    """Raises `ConfigError`, which names the key, for numbers out of range."""
    positive_integer(f"tasks.{name}.num_prompts", settings.num_prompts)
    check_distinct(f"tasks.{name}.temperatures", settings.temperatures)
    for temperature in settings.temperatures:
        settings.at(temperature)


def check_distinct(name: str, values: Sequence[Any]) -> None:
    """Raises `ConfigError` if there are no values or if a value occurs twice."""
    if not values:
        raise ConfigError(f"{name} is empty; give at least one")
    if len(set(values)) < len(values):
        raise ConfigError(f"{name}={list(values)} holds a value twice")
