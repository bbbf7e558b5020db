"""What a task is: prompts, what their answers are scored with, and where an answer ends."""

import dataclasses
import sys
from collections.abc import Callable, Sequence

from rsd_jax.errors import ConfigError
from rsd_jax.tasks.prompts import Prompt
from rsd_jax.tasks.scoring import METRICS, Score, score

PLAIN = "plain"


@dataclasses.dataclass(frozen=True)
class Task:
    """Prompts of one kind, none of which took part in training the pair that ships.

    A text that a model trains on is `<s>` prompt reference `</s>`, so that a model that has
    learned the task ends its answer with EOS.

    Attributes:
      name: as `rsd_jax.tasks.get_task` takes it.
      metric: what answers are scored with against the references, one of `METRICS`; None where
        no reference is the right one.
      stop: text that ends an answer of a model that does not end it with EOS; None: nothing does.
      max_new_tokens: enough for a reference and EOS, in tokens of a tokenizer that has learned
        on the task; for `completion`, which does not end, how much is asked for, and for data
        sets that are read from disk our choice.
      first: `first(count)` gives the first prompts, fewer than `count` if there are no more.
      template: which of the templates made the prompts; None: the texts are as they are.
      templates: those that `get_task` knows for this task, the default first; `PLAIN` stands for
        texts as they are.
      strip: whether white space around an answer is no part of it; where `stop` is set it never is.
      endless: whether there is no last prompt.
      follow: from the first turn's prompt and the answers so far to the next turn's, or None.
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
          count: None for all that there are.

        Raises:
          ConfigError: `count` is not positive, the task has fewer prompts, or all are asked for and
            there is no last one.
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
          prompt: of the first turn, one of this task's.
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
          texts: one per prompt, decoded without special tokens; what follows an answer may still
            be there, `answer` cuts it off.
          prompts: whose references count, without the whitespace around them.

        Raises:
          ConfigError: the task has no metric; there are no texts, or not one for each prompt.
        """
        if self.metric is None:
            raise ConfigError(
                f"the task {self.name!r} has no metric: no reference is the right one; score only "
                "tasks whose `metric` is not None"
            )
        answers = [self.answer(text) for text in texts]
        return score(self.metric, answers, [prompt.reference.strip() for prompt in prompts])
