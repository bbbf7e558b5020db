"""The task `completion`: Python code to continue. Stands in for open-ended generation; no metric.

Source: held-out files of CPython's standard library, see rsd_jax/assets/quickstart/README.md.
"""

from rsd_jax.tasks.base import Task
from rsd_jax.tasks.prompts import Prompt, load_prompts


def _first(count: int) -> list[Prompt]:
    return load_prompts()[:count]


COMPLETION = Task(name="completion", metric=None, stop=None, max_new_tokens=128, first=_first)
