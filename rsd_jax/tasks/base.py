"""What a task is: prompts, what their answers are scored with, and where an answer ends."""

import dataclasses
from collections.abc import Callable, Sequence

from rsd_jax.errors import ConfigError
from rsd_jax.tasks.prompts import Prompt
from rsd_jax.tasks.scoring import METRICS, Score, score


@dataclasses.dataclass(frozen=True)
class Task:
    """Prompts of one kind, none of which took part in training the pair that ships.

    A text that a model trains on is `<s>` prompt reference `</s>`, so that a model that has
    learned the task ends its answer with EOS.

    Attributes:
      name: in `rsd_jax.tasks.TASKS`.
      metric: what answers are scored with against the references, one of `METRICS`; None where
        no reference is the right one.
      stop: text that ends an answer of a model that does not end it with EOS; None: nothing does.
      max_new_tokens: enough for a reference and EOS, in tokens of a tokenizer that has learned
        on the task; for `completion`, which does not end, how much is asked for.
      first: `first(count)` gives the first prompts, fewer than `count` if there are no more.
    """

    name: str
    metric: str | None
    stop: str | None
    max_new_tokens: int
    first: Callable[[int], list[Prompt]]

    def __post_init__(self):
        if self.metric is not None and self.metric not in METRICS:
            raise ConfigError(f"metric={self.metric!r} must be None or one of {METRICS}")
        if self.max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens={self.max_new_tokens} must be at least 1")

    def test_prompts(self, count: int) -> list[Prompt]:
        """The first `count` test prompts; the same ones on every machine and in every run.

        Raises:
          ConfigError: `count` is not positive, or the task has fewer prompts.
        """
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
            return text
        return text.lstrip().split(self.stop, 1)[0].strip()

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
