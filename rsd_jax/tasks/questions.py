"""A task of questions in categories, some with later turns: what `spec_bench` and others share."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from rsd_jax.errors import ConfigError, is_integer
from rsd_jax.tasks.base import Task
from rsd_jax.tasks.jsonl import check_text
from rsd_jax.tasks.prompts import Prompt
from rsd_jax.tasks.templates import Template, choose

TEMPLATES = (
    Template("chat", chat=True),
    Template("base", "Question: {source}\n\nAnswer:", stop="\nQuestion:"),
)
_MAX_NEW_TOKENS = 256


@dataclasses.dataclass(frozen=True)
class Question:
    """A line of a file of questions.

    Attributes:
      name: name of the task and the question's id, with a slash between them.
      category: as in the file.
      turns: the text of the user in every turn.
      references: one per turn, "" if there is none.
    """

    name: str
    category: str
    turns: tuple[str, ...]
    references: tuple[str, ...]


def question_task(
    name: str,
    questions: Sequence[Question],
    path: str | pathlib.Path,
    *,
    template: str | None,
    category: str | Sequence[str] | None,
    spread: bool = False,
    metrics: Mapping[str, str],
) -> Task:
    """The task whose prompts are the first turns; `Task.follow_up` gives the later turns.

    Args:
      name: of the task.
      questions: all questions of the file, in order.
      path: of the file, for error messages.
      template: name of one of `TEMPLATES`; None: the first.
      category: one category or several; None: all.
      spread: whether some of the questions are taken evenly over all of them; otherwise they are
        the first.
      metrics: the metric of a category. The task has a metric if all its categories have the same.

    Raises:
      ConfigError: the template or a category is unknown.
    """
    chosen = choose(TEMPLATES, template, name)
    questions = _selected(questions, category, path)
    found = {metrics.get(question.category) for question in questions}
    by_name = {question.name: question for question in questions}

    def prompt(question: Question, answers: Sequence[str] = ()) -> Prompt:
        turn = len(answers)
        own = f"{question.name}/{turn + 1}" if turn else question.name
        reference = question.references[turn]
        asked = [text.strip() for text in question.turns[: turn + 1]]
        made = chosen.prompt(own, asked, reference and f" {reference}", answers)
        return dataclasses.replace(made, category=question.category)

    def follow(first: Prompt, answers: Sequence[str]) -> Prompt | None:
        if first.name not in by_name:
            raise ConfigError(
                f"the prompt {first.name!r} is not a first turn of this task; give one of "
                "`test_prompts`"
            )
        question = by_name[first.name]
        return prompt(question, answers) if len(answers) < len(question.turns) else None

    return Task(
        name=name,
        metric=found.pop() if len(found) == 1 else None,
        stop=chosen.stop,
        max_new_tokens=_MAX_NEW_TOKENS,
        first=lambda count: [
            prompt(question) for question in (_spread if spread else _first)(questions, count)
        ],
        template=chosen.name,
        templates=tuple(t.name for t in TEMPLATES),
        strip=True,
        follow=follow,
    )


def identity_of(values: dict[str, Any], where: str) -> str:
    """The field `question_id`, a number or a text, as a text.

    Raises:
      ConfigError: the field is missing or neither of them; names `where`.
    """
    identity: Any = values.get("question_id")
    if not is_integer(identity) and not (isinstance(identity, str) and identity.strip()):
        raise ConfigError(
            f"{where}: the field 'question_id' is {identity!r}; expected a number or a text"
        )
    return str(identity)


def turns_of(values: dict[str, Any], where: str) -> tuple[str, ...]:
    """The field `turns`, the texts of the user.

    Raises:
      ConfigError: the field is missing or empty, or a turn is not a text; names `where`.
    """
    turns = values.get("turns")
    if not isinstance(turns, list) or not turns:
        raise ConfigError(f"{where}: the field 'turns' is not a list with at least one turn")
    for number, turn in enumerate(turns, start=1):
        check_text(turn, f"{where}: turn {number}")
    return tuple(turns)


def _first(questions: Sequence[Question], count: int) -> Sequence[Question]:
    return questions[:count]


def _spread(questions: Sequence[Question], count: int) -> Sequence[Question]:
    """`count` questions at equal distances, the first one among them; all if there are fewer."""
    count = min(count, len(questions))
    return [questions[index * len(questions) // count] for index in range(count)]


def _selected(
    questions: Sequence[Question],
    category: str | Sequence[str] | None,
    path: str | pathlib.Path,
) -> Sequence[Question]:
    if category is None:
        return questions
    wanted = [category] if isinstance(category, str) else list(category)
    known = list(dict.fromkeys(question.category for question in questions))
    unknown = [name for name in wanted if name not in known]
    if unknown or not wanted:
        raise ConfigError(f"category={category!r}; {path} has the categories {known}")
    return [question for question in questions if question.category in wanted]
