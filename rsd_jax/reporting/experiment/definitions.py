"""The sweeps whose rows are drawn as in the papers."""

import dataclasses


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
