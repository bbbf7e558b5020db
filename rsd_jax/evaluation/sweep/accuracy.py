"""Accuracy of answers, alone and relative to those of the baseline."""

from collections.abc import Sequence
from typing import Any

from rsd_jax.tasks.base import Task
from rsd_jax.tasks.prompts import Prompt
from rsd_jax.tasks.scoring import score_ratio


def accuracy_fields(
    task: Task, prompts: Sequence[Prompt], texts: Sequence[str], base: Sequence[str]
) -> dict[str, Any]:
    """The fields of a row that say how good its answers are; none if the task has no metric.

    Args:
      task: whose metric it is.
      prompts: with the references.
      texts: as they were decoded.
      base: those of the baseline, likewise.
    """
    if task.metric is None:
        return {}
    measured = task.score(texts, prompts)
    fields: dict[str, Any] = {
        "accuracy": measured.value,
        "accuracy_interval": measured.interval,
        "accuracy_metric": measured.metric,
        "accuracy_signature": measured.signature,
    }
    references = [prompt.reference.strip() for prompt in prompts]
    answers, others = ([task.answer(text) for text in listed] for listed in (texts, base))
    ratio = score_ratio(task.metric, answers, others, references)
    if ratio is not None:
        fields["accuracy_ratio"], fields["accuracy_ratio_interval"] = ratio
    return fields
