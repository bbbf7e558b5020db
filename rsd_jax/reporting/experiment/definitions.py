"""The sweeps whose figures are drawn as in the papers."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Experiment:
    """An experiment: structures are compared at equal draft length or equal target budget.

    Attributes:
      name: name in the rows.
      title: title for headings.
      field: field of rows that is equal among compared structures; the abscissa of the figure.
      label: label of `field`.
      free_field: field of rows that may differ among compared structures.
      free_label: label of `free_field`.
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
