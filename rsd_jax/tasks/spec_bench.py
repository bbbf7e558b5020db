"""The task `spec_bench`: questions of several categories, some with a second turn.

Source: Xia et al. 2024, https://github.com/hemingkx/Spec-Bench, `data/spec_bench/question.jsonl`,
Apache-2.0; the data sets that Spec-Bench is put together from have licences of their own. A line of
that file has `question_id`, `category`, `turns` and, in some lines, `reference`: for each turn a
string or a list of strings. Templates and lengths are our choice, not those of Spec-Bench.
"""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

from rsd_jax.errors import ConfigError, is_integer
from rsd_jax.tasks.base import Task
from rsd_jax.tasks.jsonl import check_names, check_text, read_objects, text_of
from rsd_jax.tasks.prompts import Prompt
from rsd_jax.tasks.templates import Template, choose

# The other categories have no metric: a good answer may differ from the reference, or only a number
# in the answer counts.
CATEGORY_METRICS = {"translation": "bleu", "summarization": "rouge2"}
TEMPLATES = (
    Template("chat", chat=True),
    Template("base", "Question: {source}\n\nAnswer:", stop="\nQuestion:"),
)
_MAX_NEW_TOKENS = 256


@dataclasses.dataclass(frozen=True)
class Question:
    """A line of the file.

    Attributes:
      name: `spec_bench/` and the question's id.
      category: as in the file.
      turns: the text of the user in every turn.
      references: one per turn, "" if there is none.
    """

    name: str
    category: str
    turns: tuple[str, ...]
    references: tuple[str, ...]


def spec_bench_task(
    *,
    path: str | pathlib.Path,
    template: str | None = None,
    category: str | Sequence[str] | None = None,
) -> Task:
    """The task whose prompts are the first turns; `Task.follow_up` gives the later turns.

    Args:
      path: the file of Spec-Bench, unchanged.
      template: "chat", the default, or "base".
      category: one category or several; None: all. The order is that of the file. The task has a
        metric if all its categories have the same one, see `CATEGORY_METRICS`.

    Raises:
      ConfigError: the template or a category is unknown; the file is missing or empty, or a line is
        invalid; names file and line.
    """
    chosen = choose(TEMPLATES, template, "spec_bench")
    questions = _selected(read_questions(path), category, path)
    metrics = {CATEGORY_METRICS.get(question.category) for question in questions}
    metric = metrics.pop() if len(metrics) == 1 else None
    by_name = {question.name: question for question in questions}

    def prompt(question: Question, answers: Sequence[str] = ()) -> Prompt:
        turn = len(answers)
        name = f"{question.name}/{turn + 1}" if turn else question.name
        reference = question.references[turn]
        asked = [text.strip() for text in question.turns[: turn + 1]]
        return chosen.prompt(name, asked, reference and f" {reference}", answers)

    def follow(first: Prompt, answers: Sequence[str]) -> Prompt | None:
        if first.name not in by_name:
            raise ConfigError(
                f"the prompt {first.name!r} is not a first turn of this task; give one of "
                "`test_prompts`"
            )
        question = by_name[first.name]
        return prompt(question, answers) if len(answers) < len(question.turns) else None

    return Task(
        name="spec_bench",
        metric=metric,
        stop=chosen.stop,
        max_new_tokens=_MAX_NEW_TOKENS,
        first=lambda count: [prompt(question) for question in questions[:count]],
        template=chosen.name,
        templates=tuple(t.name for t in TEMPLATES),
        strip=True,
        follow=follow,
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
    identity = values.get("question_id")
    if not is_integer(identity) and not (isinstance(identity, str) and identity.strip()):
        raise ConfigError(f"{where}: the field 'question_id' is {identity!r}; expected a number")
    category = text_of(values, "category", where)
    turns = values.get("turns")
    if not isinstance(turns, list) or not turns:
        raise ConfigError(f"{where}: the field 'turns' is not a list with at least one turn")
    for number, turn in enumerate(turns, start=1):
        check_text(turn, f"{where}: turn {number}")
    references = _references(values.get("reference"), len(turns), where)
    if category in CATEGORY_METRICS and not references[0].strip():
        raise ConfigError(
            f"{where}: no reference, which {CATEGORY_METRICS[category]!r} needs, the metric of the "
            f"category {category!r}"
        )
    return Question(f"spec_bench/{identity}", category, tuple(turns), references)


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


def _selected(
    questions: list[Question], category: str | Sequence[str] | None, path: str | pathlib.Path
) -> list[Question]:
    if category is None:
        return questions
    wanted = [category] if isinstance(category, str) else list(category)
    known = list(dict.fromkeys(question.category for question in questions))
    unknown = [name for name in wanted if name not in known]
    if unknown or not wanted:
        raise ConfigError(f"category={category!r}; {path} has the categories {known}")
    return [question for question in questions if question.category in wanted]
