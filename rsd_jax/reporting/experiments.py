"""The sweeps whose rows are drawn as in the papers, and how papers name pairs and tasks."""

import dataclasses
import re

_TASK_NAMES = {
    "wmt18_de_en": "WMT",
    "xsum": "XSum",
    "dolly": "Dolly",
    "number_words": "number words",
}


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What a sweep holds fixed while structures compete.

    Attributes:
      name: as in rows.
      title: for headings.
      field: of rows: the abscissa of its figure.
      label: of that field.
      free_field: of rows: what may differ among the structures of one abscissa.
      free_label: of that field.
    """

    name: str
    title: str
    field: str
    label: str
    free_field: str
    free_label: str


_LENGTH = ("draft_length", "draft length")
_BUDGET = ("target_budget", "target budget")
EXPERIMENTS: dict[str, Experiment] = {
    "experiment1": Experiment(
        "experiment1", "Experiment 1: equal draft length", *_LENGTH, *_BUDGET
    ),
    "experiment2": Experiment(
        "experiment2", "Experiment 2: equal target budget", *_BUDGET, *_LENGTH
    ),
}


def pretty(name: str) -> str:
    """A pair's or task's name as papers write it, where it is a known one."""

    def llama(match: re.Match[str]) -> str:
        return f"Llama-2-{'Chat-' if match[1] else ''}{match[2]}B"

    renamed = re.sub(r"llama[-_]?2[-_](chat[-_])?(\d+)b", llama, name, flags=re.IGNORECASE)
    return _TASK_NAMES.get(renamed.lower(), renamed)
