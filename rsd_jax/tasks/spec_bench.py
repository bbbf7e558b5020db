"""The task `spec_bench`: questions of several categories, some with a second turn.

Source: Xia et al. 2024, https://github.com/hemingkx/Spec-Bench, `data/spec_bench/question.jsonl`,
Apache-2.0; the data sets that Spec-Bench is put together from have licences of their own. A line of
that file has `question_id`, `category`, `turns` and, in some lines, `reference`: for each turn a
string or a list of strings. Templates and lengths are our choice, not those of Spec-Bench.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

from rsd_jax.errors import ConfigError
from rsd_jax.tasks.base import Task
from rsd_jax.tasks.jsonl import check_names, read_objects, text_of
from rsd_jax.tasks.questions import Question, identity_of, question_task, turns_of

# The other categories have no metric: a good answer may differ from the reference, or only a number
# in the answer counts.
CATEGORY_METRICS = {"translation": "bleu", "summarization": "rouge2"}


def spec_bench_task(
    *,
    path: str | pathlib.Path,
    template: str | None = None,
    category: str | Sequence[str] | None = None,
    spread: bool = False,
) -> Task:
    """The task whose prompts are the first turns; `Task.follow_up` gives the later turns.

    Args:
      path: the file of Spec-Bench, unchanged.
      template: "chat", the default, or "base".
      category: one category or several; None: all. The order is that of the file. The task has a
        metric if all its categories have the same one, see `CATEGORY_METRICS`.
      spread: see `question_task`.

    Raises:
      ConfigError: the template or a category is unknown; the file is missing or empty, or a line is
        invalid; names file and line.
    """
    return question_task(
        "spec_bench",
        read_questions(path),
        path,
        template=template,
        category=category,
        spread=spread,
        metrics=CATEGORY_METRICS,
    )


def read_questions(path: str | pathlib.Path) -> list[Question]:
    """All questions of the file.

    Raises:
      ConfigError: see `spec_bench_task`.
    """
    objects = read_objects(path)
    questions = [_question(values, where) for where, values in objects]
    check_names([(q.name, where) for q, (where, _) in zip(questions, objects, strict=True)])
    return questions


def _question(values: dict[str, Any], where: str) -> Question:
    name = f"spec_bench/{identity_of(values, where)}"
    category, turns = text_of(values, "category", where), turns_of(values, where)
    references = _references(values.get("reference"), len(turns), where)
    if category in CATEGORY_METRICS and not references[0].strip():
        raise ConfigError(
            f"{where}: no reference, which {CATEGORY_METRICS[category]!r} needs, the metric of the "
            f"category {category!r}"
        )
    return Question(name, category, turns, references)


def _references(values: Any, turns: int, where: str) -> tuple[str, ...]:
    """The reference of each turn; the strings of a list, parts of an answer, become its lines."""
    if not values:
        return ("",) * turns
    if not isinstance(values, list) or len(values) > turns:
        raise ConfigError(
            f"{where}: the field 'reference' is not a list of at most one entry for each of the "
            f"{turns} turns"
        )
    texts = []
    for entry in values:
        parts = entry if isinstance(entry, list) else [entry]
        if not all(isinstance(part, str) for part in parts):
            raise ConfigError(f"{where}: a reference is neither a string nor a list of strings")
        texts.append("\n".join(parts))
    return (*texts, *[""] * (turns - len(texts)))
