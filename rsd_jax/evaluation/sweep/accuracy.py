"""Accuracy of a method's answers, absolute and relative to the baseline's accuracy."""

from collections.abc import Sequence

from rsd_jax.records.parts import Scores
from rsd_jax.tasks.base import Task
from rsd_jax.tasks.prompts import Prompt
from rsd_jax.tasks.scoring import score_ratio


def scores(
    task: Task, prompts: Sequence[Prompt], texts: Sequence[str], base: Sequence[str]
) -> Scores | None:
    """The scores of a row's answers; None if the task has no metric.

    Args:
      task: gives the metric.
      prompts: prompts with their references.
      texts: decoded texts of the method, one per prompt.
      base: decoded texts of the baseline, one per prompt.
    """
    if task.metric is None:
        return None
    measured = task.score(texts, prompts)
    references = [prompt.reference.strip() for prompt in prompts]
    answers, others = ([task.answer(text) for text in listed] for listed in (texts, base))
    ratio, ends = score_ratio(task.metric, answers, others, references) or (None, None)
    return Scores(
        accuracy=measured.value,
        accuracy_interval=measured.interval,
        accuracy_metric=measured.metric,
        accuracy_signature=measured.signature,
        accuracy_ratio=ratio,
        accuracy_ratio_interval=ends,
    )
