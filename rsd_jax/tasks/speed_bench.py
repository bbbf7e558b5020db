"""The task `speed_bench`: questions of SPEED-Bench, some with several turns.

Source: arXiv:2604.09557, https://huggingface.co/datasets/nvidia/SPEED-Bench. Its licence does not
allow us to hand the questions on. Of a line of a prepared file, `question_id`, `category` and
`turns` are read; it also has `sub_category`, `source`, `src_id`, `difficulty` and `multiturn`. The
published files hold a placeholder instead of questions of other owners; the preparation that comes
with the benchmark puts these questions in. Templates and lengths are our choice.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

from rsd_jax.errors import ConfigError
from rsd_jax.tasks.base import Task
from rsd_jax.tasks.jsonl import check_names, read_objects, text_of
from rsd_jax.tasks.questions import Question, identity_of, question_task, turns_of

PLACEHOLDER = "FULL BENCHMARK DATA SHOULD BE FETCHED"
"""How the text that stands for a question of another owner begins."""
_PREPARE = (
    "run the preparation that the page of the data set nvidia/SPEED-Bench names, which puts the "
    "questions in"
)


def speed_bench_task(
    *,
    path: str | pathlib.Path,
    template: str | None = None,
    category: str | Sequence[str] | None = None,
    spread: bool = False,
) -> Task:
    """The task whose prompts are the first turns; `Task.follow_up` gives the later turns.

    Answers are not scored: the benchmark has no references.

    Args:
      path: a prepared file of SPEED-Bench, as JSON lines.
      template: "chat", the default, or "base".
      category: one category or several; None: all. The order is that of the file.
      spread: see `question_task`.

    Raises:
      ConfigError: the template or a category is unknown; the file is missing or empty; a line is
        invalid or still holds a placeholder; names file and line.
    """
    objects = read_objects(path)
    questions = [_question(values, where) for where, values in objects]
    check_names([(q.name, where) for q, (where, _) in zip(questions, objects, strict=True)])
    return question_task(
        "speed_bench",
        questions,
        path,
        template=template,
        category=category,
        spread=spread,
        metrics={},
    )


def _question(values: dict[str, Any], where: str) -> Question:
    turns = turns_of(values, where)
    if any(PLACEHOLDER in turn for turn in turns):
        raise ConfigError(f"{where}: a placeholder stands for the question; {_PREPARE}")
    name = f"speed_bench/{identity_of(values, where)}"
    return Question(name, text_of(values, "category", where), turns, ("",) * len(turns))
