"""`Task`: prompts, the metric of the answers, and where an answer ends."""

import dataclasses
import sys
from collections.abc import Callable, Sequence

from rsd_jax.errors import ConfigError
from rsd_jax.tasks.prompts import Prompt
from rsd_jax.tasks.scoring import METRICS, Score, score

PLAIN = "plain"


@dataclasses.dataclass(frozen=True)
class Task:
    """Prompts of one kind; the pair that ships was not trained on any of these prompts.

    A training text is `<s>` prompt reference `</s>`, so a model that has learned the task ends its
    answer with EOS.

    Attributes:
      name: as `rsd_jax.tasks.get_task` takes it.
      metric: one of `METRICS`, which scores answers against the references; None if a good answer
        can differ from the reference.
      stop: text that ends an answer of a model that does not write EOS there; None: no text does.
      max_new_tokens: for `number_words` and `docstrings`, enough for a reference and EOS, in tokens
        of a tokenizer that was trained on the task; for the other tasks, our choice.
      first: `first(count)` gives the first prompts, fewer than `count` if there are no more.
      template: name of the template that made the prompts; None if none was applied.
      templates: names of the templates that `get_task` knows for this task, the default first;
        `PLAIN` stands for texts without a template.
      strip: whether white space around an answer is removed; if `stop` is set, it always is.
      endless: whether there is no last prompt.
      follow: function from the prompt of the first turn and the answers so far to the prompt of
        the next turn, or to None if there is no next turn; None if the task has no second turns.
    """

    name: str
    metric: str | None
    stop: str | None
    max_new_tokens: int
    first: Callable[[int], list[Prompt]]
    template: str | None = None
    templates: tuple[str, ...] = (PLAIN,)
    strip: bool = False
    endless: bool = False
    follow: Callable[[Prompt, Sequence[str]], Prompt | None] | None = None

    def __post_init__(self):
        if self.metric is not None and self.metric not in METRICS:
            raise ConfigError(f"metric={self.metric!r} must be None or one of {METRICS}")
        if self.max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens={self.max_new_tokens} must be at least 1")

    def test_prompts(self, count: int | None) -> list[Prompt]:
        """The first `count` test prompts; the same ones on every machine and in every run.

        Args:
          count: number of prompts; None for all.

        Raises:
          ConfigError: `count` is not positive, the task has fewer prompts, or `count` is None and
            the task has no last prompt.
        """
        if count is None:
            if self.endless:
                raise ConfigError(f"the task {self.name!r} has no last prompt; give a count")
            return self.first(sys.maxsize)
        if count < 1:
            raise ConfigError(f"count={count} must be at least 1")
        prompts = self.first(count)
        if len(prompts) < count:
            raise ConfigError(
                f"count={count}, but the task {self.name!r} has {len(prompts)} test prompts; "
                "ask for no more than that"
            )
        return prompts

    def answer(self, text: str) -> str:
        """The part of generated text, decoded without special tokens, that is to be scored."""
        if self.stop is None:
            return text.strip() if self.strip else text
        return text.lstrip().split(self.stop, 1)[0].strip()

    def follow_up(self, prompt: Prompt, answers: Sequence[str]) -> Prompt | None:
        """The next turn of a conversation, with what was said before in its text.

        Args:
          prompt: a prompt of this task, of a first turn.
          answers: generated texts, as for `score`, one for every turn so far.

        Returns:
          The prompt of turn `len(answers) + 1`; None if there is no such turn.

        Raises:
          ConfigError: the prompt is not of this task, or there are no answers.
        """
        if not answers:
            raise ConfigError(
                "answers is empty; the first turn is the prompt itself, give the answer to it"
            )
        if self.follow is None:
            return None
        return self.follow(prompt, [self.answer(text) for text in answers])

    def score(self, texts: Sequence[str], prompts: Sequence[Prompt]) -> Score:
        """Scores generated texts against the references of their prompts.

        Args:
          texts: one per prompt, decoded without special tokens. A text may go on after its answer;
            `answer` cuts it.
          prompts: the prompts of the texts; white space around their references does not count.

        Raises:
          ConfigError: the task has no metric; there are no texts; there is not one text per prompt.
        """
        if self.metric is None:
            raise ConfigError(
                f"the task {self.name!r} has no metric: no reference is the right one; score only "
                "tasks whose `metric` is not None"
            )
        answers = [self.answer(text) for text in texts]
        return score(self.metric, answers, [prompt.reference.strip() for prompt in prompts])
