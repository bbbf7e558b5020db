"""Accuracy of answers, alone and relative to those of the baseline."""

from collections.abc import Sequence

from rsd_jax.records.parts import Scores
from rsd_jax.tasks.base import Task
from rsd_jax.tasks.prompts import Prompt
from rsd_jax.tasks.scoring import score_ratio


def scores(
    task: Task, prompts: Sequence[Prompt], texts: Sequence[str], base: Sequence[str]
) -> Scores | None:
    """The part of a row that says how good its answers are; None if the task has no metric.

    Args:
      task: whose metric it is.
      prompts: with the references.
      texts: as they were decoded.
      base: those of the baseline, likewise.
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
