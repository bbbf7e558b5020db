"""Warns where a model answers nothing, which is mostly a template that is not the model's."""

import warnings
from typing import Any

from rsd_jax.tasks.base import PLAIN
from rsd_jax.text.chat import has_template

_SHOWN = 60  # characters of a template in the warning


class EmptyAnswers:
    """Warns about a task whose answers are all nothing but an end; at most once per task."""

    def __init__(self):
        self._told: set[str] = set()

    def check(
        self,
        task: str,
        *,
        answers: int,
        tokens: int,
        max_new_tokens: int,
        template: str | None,
        tokenizer: Any,
    ) -> None:
        """Warns if every answer has one token, the end, although more were allowed.

        Args:
          task: name of the task.
          answers: number of answers.
          tokens: number of their tokens, ends included.
          max_new_tokens: limit of an answer; at 1, nothing can be told.
          template: name or text of the prompts' template; None for plain texts.
          tokenizer: of `transformers` or `tokenizers`; the warning shows its chat template.
        """
        if task in self._told or not answers or tokens > answers or max_new_tokens == 1:
            return
        self._told.add(task)
        own = "has no chat template"
        if has_template(tokenizer):
            start = str(tokenizer.chat_template)[:_SHOWN]
            own = f"has a chat template of its own, template='chat', which begins {start!r}"
        warnings.warn(
            f"all {answers} answers of the task {task!r} are nothing but an end-of-sequence "
            f"token. The prompts have template={template or PLAIN!r}; the tokenizer {own}. Choose "
            "the template that the model was trained with",
            stacklevel=3,
        )
