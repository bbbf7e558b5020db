"""The task `docstrings`: from a Python function to the first line of its docstring.

The task stands in for summarisation. Source: held-out files of CPython's standard library, see
rsd_jax/assets/quickstart/README.md. The test prompts are stored in a file, so that they do not
depend on the running interpreter; `rsd_jax.distillation.data.functions` made that file.
"""

from rsd_jax.tasks.base import Task
from rsd_jax.tasks.prompts import QUICKSTART_PROMPTS, Prompt, load_prompts

DOCSTRING_PROMPTS = QUICKSTART_PROMPTS.with_name("docstrings.jsonl")
MARKER = "\n# Summary:"


def docstring_prompt(name: str, source: str, summary: str) -> Prompt:
    """The prompt that asks for the `summary` of a function whose `source` has no docstring."""
    return Prompt(name, source + MARKER, f" {summary}")


def _first(count: int) -> list[Prompt]:
    return load_prompts(DOCSTRING_PROMPTS)[:count]


DOCSTRINGS = Task(name="docstrings", metric="rouge2", stop="\n", max_new_tokens=48, first=_first)
