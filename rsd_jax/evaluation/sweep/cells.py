"""The cells of a sweep: which there are, which are done, and which are measured together."""

import dataclasses
from collections.abc import Iterable, Sequence

from rsd_jax.errors import ConfigError
from rsd_jax.evaluation.sweep.settings import BASELINE, Sweep
from rsd_jax.rows import Row


@dataclasses.dataclass(frozen=True, order=True)
class Cell:
    """One row of the results."""

    pair: str
    task: str
    temperature: float
    seed: int
    method: str
    tree: str

    @classmethod
    def of(cls, row: Row) -> "Cell":
        """The cell that a row is of."""
        return cls(row.pair, row.task, row.temperature, row.seed, row.method, row.tree)


@dataclasses.dataclass(frozen=True)
class Turn:
    """Cells that are measured together: one pair, task, temperature and seed.

    Attributes:
      pair, task, temperature, seed: as in the cells.
      methods: (name, tree); the baseline first, whether its row is missing or not.
      cells: whose rows are missing.
    """

    pair: str
    task: str
    temperature: float
    seed: int
    methods: tuple[tuple[str, str], ...]
    cells: tuple[Cell, ...]


def all_cells(sweep: Sweep) -> list[Cell]:
    """Every cell in the order of measuring; the baseline comes first in its group."""
    methods = list(sweep.methods())
    return [
        Cell(pair, task, temperature, seed, *method)
        for pair in sweep.pairs
        for task, settings in sweep.tasks.items()
        for temperature in settings.temperatures
        for seed in sweep.seeds
        for method in methods
    ]


def missing_cells(sweep: Sweep, rows: Iterable[Row], *, retry_failed: bool = False) -> list[Cell]:
    """The cells without a row, in the order of measuring.

    Args:
      sweep: what is to be measured.
      rows: what was measured before; those of other cells do not matter.
      retry_failed: whether a failed cell counts as missing.

    Raises:
      ConfigError: a row of a cell was measured under other settings.
    """
    cells = all_cells(sweep)
    known = set(cells)
    done = set()
    for row in rows:
        cell = Cell.of(row)
        if row.experiment != sweep.experiment or cell not in known:
            continue
        if row.config_hash != sweep.hash_of(row.pair, row.task):
            raise ConfigError(
                f"the results hold {row.method} {row.tree} on {row.task}, measured with other "
                f"settings than the configuration's{_differences(sweep, row)}; set "
                "--config.out_dir to a new folder, or go back to those settings"
            )
        if row.status != "failed" or not retry_failed:
            done.add(cell)
        else:
            done.discard(cell)
    return [cell for cell in cells if cell not in done]


def turns(sweep: Sweep, cells: Sequence[Cell]) -> list[Turn]:
    """Cuts cells into turns of at most `cells_together`, beside the baseline."""
    groups: dict[tuple[str, str, float, int], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.pair, cell.task, cell.temperature, cell.seed), []).append(cell)
    cut = []
    for key, members in groups.items():
        baseline = [cell for cell in members if cell.method == BASELINE]
        others = [cell for cell in members if cell.method != BASELINE]
        size = sweep.cells_together
        parts = [others[i : i + size] for i in range(0, len(others), size)] or [[]]
        for index, part in enumerate(parts):
            named = [(cell.method, cell.tree) for cell in part]
            own = (baseline if index == 0 else []) + part
            cut.append(Turn(*key, methods=((BASELINE, "-"), *named), cells=tuple(own)))
    return cut


def alone(turn: Turn) -> list[Turn]:
    """The turn cut into one per cell, for when one of them fails."""
    return [
        dataclasses.replace(
            turn,
            methods=tuple(dict.fromkeys(((BASELINE, "-"), (cell.method, cell.tree)))),
            cells=(cell,),
        )
        for cell in turn.cells
    ]


def _differences(sweep: Sweep, row: Row) -> str:
    """In words: which settings that a row carries differ."""
    settings, source = sweep.tasks[row.task], sweep.pairs[row.pair]
    asked = row.num_prompts + row.num_skipped if row.num_prompts is not None else None
    values = {
        "num_prompts": (asked, settings.num_prompts),
        "max_new_tokens": (row.max_new_tokens, settings.max_new_tokens),
        "top_k": (row.top_k, settings.top_k),
        "top_p": (row.top_p, settings.top_p),
        "batch_size": (row.batch_size, sweep.batch_size),
        "dtype": (row.dtype, source.dtype),
        "template": (row.template, source.template),
        "draft_temperature": (row.draft_temperature, sweep.draft_temperature),
        "draft_top_k": (row.draft_top_k, sweep.draft_top_k),
    }
    found = [f"{name} {was} then, {now} now" for name, (was, now) in values.items() if was != now]
    return f" ({', '.join(found)})" if found else ""
