"""Prompts and references to decode and score against."""

from rsd_jax.errors import ConfigError
from rsd_jax.tasks.base import Task
from rsd_jax.tasks.completion import COMPLETION
from rsd_jax.tasks.docstrings import DOCSTRINGS
from rsd_jax.tasks.number_words import NUMBER_WORDS

TASKS: dict[str, Task] = {
    "completion": COMPLETION,
    "docstrings": DOCSTRINGS,
    "number_words": NUMBER_WORDS,
}


def get_task(name: str) -> Task:
    """The task of that name.

    Raises:
      ConfigError: there is none.
    """
    if name not in TASKS:
        raise ConfigError(f"unknown task {name!r}; known tasks: {sorted(TASKS)}")
    return TASKS[name]
