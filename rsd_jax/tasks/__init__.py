"""Tasks: prompts to decode, and references to score the answers against."""

import inspect
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from rsd_jax.errors import ConfigError
from rsd_jax.tasks.base import PLAIN, Task
from rsd_jax.tasks.completion import COMPLETION
from rsd_jax.tasks.docstrings import DOCSTRINGS
from rsd_jax.tasks.dolly import DOLLY
from rsd_jax.tasks.jsonl import jsonl_task
from rsd_jax.tasks.number_words import NUMBER_WORDS
from rsd_jax.tasks.spec_bench import spec_bench_task
from rsd_jax.tasks.speed_bench import speed_bench_task
from rsd_jax.tasks.wmt18 import WMT18_DE_EN
from rsd_jax.tasks.xsum import XSUM

TASKS: dict[str, Task] = {
    "completion": COMPLETION,
    "docstrings": DOCSTRINGS,
    "number_words": NUMBER_WORDS,
}
"""Tasks that ship with the package; their texts are used as they are, without a template."""
DISK_TASKS: dict[str, Callable[..., Task]] = {
    "dolly": DOLLY.task,
    "jsonl": jsonl_task,
    "spec_bench": spec_bench_task,
    "speed_bench": speed_bench_task,
    "wmt18_de_en": WMT18_DE_EN.task,
    "xsum": XSUM.task,
}
"""Tasks that are read from disk; the keyword arguments of a function are the task's options."""


def get_task(
    name: str,
    *,
    template: str | None = None,
    path: str | pathlib.Path | None = None,
    data_dir: str | pathlib.Path | None = None,
    category: str | Sequence[str] | None = None,
    spread: bool | None = None,
    metric: str | None = None,
) -> Task:
    """The task of that name, with a template applied.

    Args:
      name: a key of `TASKS`, which need no data, or of `DISK_TASKS`.
      template: one of `Task.templates`; None: the first.
      path: a JSONL file of prompts, for the tasks of `DISK_TASKS`. `jsonl`, `spec_bench`
        and `speed_bench` need it; `dolly`, `wmt18_de_en` and `xsum` read it instead of the data set
        (see `SourceTask.task`).
      data_dir: where TensorFlow Datasets keeps the data set of `dolly`, `wmt18_de_en` or `xsum`.
      category: one category or several of the questions of `spec_bench` or `speed_bench`;
        None: all.
      spread: for these two, whether some of the questions are taken evenly over all of them, e.g.
        some of each category; None: the first questions are taken.
      metric: for `jsonl`, the metric of the answers.

    Raises:
      ConfigError: there is no such task or template; the task does not take a given option, or
        lacks an option that it needs; see also `jsonl_task`, `spec_bench_task`,
        `speed_bench_task` and `SourceTask.task`.
    """
    given: dict[str, Any] = {
        option: value
        for option, value in (
            ("template", template),
            ("path", path),
            ("data_dir", data_dir),
            ("category", category),
            ("spread", spread),
            ("metric", metric),
        )
        if value is not None
    }
    if name in TASKS:
        if given.get("template") == PLAIN:
            del given["template"]
        if "template" in given:
            raise ConfigError(
                f"template={template!r}: the task {name!r} has only the template {PLAIN!r}"
            )
        _check_options(name, given, {"template": False})
        return TASKS[name]
    if name not in DISK_TASKS:
        raise ConfigError(f"unknown task {name!r}; known tasks: {sorted({*TASKS, *DISK_TASKS})}")
    parameters = inspect.signature(DISK_TASKS[name]).parameters.values()
    _check_options(name, given, {p.name: p.default is p.empty for p in parameters})
    return DISK_TASKS[name](**given)


def _check_options(name: str, given: dict[str, Any], known: dict[str, bool]) -> None:
    """Checks the options of a task; `known` maps each option to whether the task needs it."""
    if unknown := sorted(set(given) - set(known)):
        raise ConfigError(f"the task {name!r} takes no {unknown}; its options: {sorted(known)}")
    if missing := [option for option, needed in known.items() if needed and option not in given]:
        raise ConfigError(f"the task {name!r} needs {missing}")
