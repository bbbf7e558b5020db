"""The cells of a sweep: all of them, the missing ones, and those that are measured together."""

import dataclasses
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from rsd_jax.errors import ConfigError
from rsd_jax.evaluation.sweep.definition import BASELINE, BASELINE_KEY, MethodKey, Sweep
from rsd_jax.records.rows import FILTERS, Row


@dataclasses.dataclass(frozen=True, order=True)
class Cell:
    """One row of the results.

    Attributes:
      pair, task, temperature, seed: where the method is measured.
      method: name, tree and verifier.
    """

    pair: str
    task: str
    temperature: float
    seed: int
    method: MethodKey

    @classmethod
    def of(cls, row: Row) -> "Cell":
        """The cell that a row belongs to."""
        key = (row.method, row.tree, row.verifier or "")
        return cls(row.pair, row.task, row.temperature, row.seed, key)

    @property
    def is_baseline(self) -> bool:
        """Whether it is autoregressive decoding."""
        return self.method[0] == BASELINE


@dataclasses.dataclass(frozen=True)
class Turn:
    """Cells that are measured together: one pair, task, temperature and seed.

    Attributes:
      pair, task, temperature, seed: as in the cells.
      part: index of the methods' part of the sweep; turns of one part compile the same programs.
      methods: the baseline first, whether its row is missing or not.
      cells: the cells whose rows are missing.
    """

    pair: str
    task: str
    temperature: float
    seed: int
    part: int
    methods: tuple[MethodKey, ...]
    cells: tuple[Cell, ...]


def all_cells(sweep: Sweep) -> list[Cell]:
    """Every cell in the order of measuring; the baseline comes first in its group."""
    methods = list(sweep.methods())
    return [
        Cell(pair, task, temperature, seed, method)
        for pair in sweep.pairs
        for task, settings in sweep.tasks.items()
        for temperature in settings.temperatures
        for seed in sweep.seeds
        for method in methods
    ]


def missing_cells(
    sweep: Sweep,
    rows: Iterable[Row],
    *,
    tasks: Collection[str] | None = None,
    retry_failed: bool = False,
) -> list[Cell]:
    """The cells without a row, in the order of measuring.

    Args:
      sweep: what is to be measured.
      rows: what was measured before; rows of other experiments, pairs and tasks are ignored.
      tasks: tasks whose cells are returned; None for all. Another process, with its own
        `out_dir`, can measure the tasks that are left out.
      retry_failed: whether a failed cell counts as missing.

    Raises:
      ConfigError: no such task.
      ConfigError: a row was measured with other settings. A failed row with other settings is
        ignored, as nothing was measured.
    """
    if unknown := sorted(set(tasks or ()) - set(sweep.tasks)):
        raise ConfigError(f"tasks={unknown} are not in the sweep; it has {list(sweep.tasks)}")
    done = set()
    for row in rows:
        if not belongs(sweep, row):
            continue
        cell = Cell.of(row)
        if row.config_hash != sweep.hash_of(row.pair, row.task):
            if row.status == "failed":
                continue
            raise ConfigError(
                f"the results hold {row.variant} {row.tree} on {row.task}, measured with other "
                f"settings than the configuration's{_differences(sweep, row)}; set "
                "--config.out_dir to a new folder, or go back to those settings"
            )
        if row.status != "failed" or not retry_failed:
            done.add(cell)
        else:
            done.discard(cell)
    wanted = sweep.tasks if tasks is None else tasks
    return [cell for cell in all_cells(sweep) if cell not in done and cell.task in wanted]


def belongs(sweep: Sweep, row: Row) -> bool:
    """Whether a row is of the sweep's experiment and of one of its pairs and tasks."""
    known = row.pair in sweep.pairs and row.task in sweep.tasks
    return known and row.experiment == sweep.experiment


def turns(sweep: Sweep, cells: Sequence[Cell]) -> list[Turn]:
    """Cuts cells into turns of at most `cells_together` cells and the baseline.

    Pair by pair, a few methods (a part) go through all tasks, temperatures and seeds before the
    next few. Each method is thus compiled once, and a finished part's programs can be dropped.
    """
    size = sweep.cells_together
    drafting = [method for method in sweep.methods() if method != BASELINE_KEY]
    parts = {method: index // size for index, method in enumerate(drafting)}
    groups: dict[tuple[str, int, str, float, int], list[Cell]] = {}
    first: dict[tuple[str, str, float, int], int] = {}
    for cell in sorted(cells, key=lambda cell: cell.is_baseline):
        where = (cell.pair, cell.task, cell.temperature, cell.seed)
        part = parts.get(cell.method, first.get(where, 0))
        first[where] = min(part, first.get(where, part))
        groups.setdefault((cell.pair, part, *where[1:]), []).append(cell)
    order = list(dict.fromkeys(cell.pair for cell in cells))
    cut = []
    for key in sorted(groups, key=lambda key: (order.index(key[0]), key[1])):
        pair, part, task, temperature, seed = key
        members = sorted(groups[key], key=lambda cell: not cell.is_baseline)
        methods = (BASELINE_KEY, *(cell.method for cell in members if not cell.is_baseline))
        cut.append(Turn(pair, task, temperature, seed, part, methods, tuple(members)))
    return cut


def alone(turn: Turn) -> list[Turn]:
    """The turn cut into one turn per cell, to find out which cell fails."""
    return [
        dataclasses.replace(
            turn,
            methods=tuple(dict.fromkeys((BASELINE_KEY, cell.method))),
            cells=(cell,),
        )
        for cell in turn.cells
    ]


def _differences(sweep: Sweep, row: Row) -> str:
    """In words: the settings in a row that differ from the sweep's; "" if none of them does."""
    settings, source = sweep.tasks[row.task], sweep.pairs[row.pair]
    values: dict[str, tuple[Any, Any]] = {
        "max_new_tokens": (row.max_new_tokens, settings.max_new_tokens),
        **{name: (getattr(row, name), getattr(settings, name)) for name in FILTERS},
        "batch_size": (row.batch_size, sweep.batch_size),
        "batches_per_call": (row.batches_per_call or 1, sweep.batches_in_call),
        "dtype": (row.dtype, source.dtype),
        "mesh": (list((row.mesh or {}).values()), sweep.mesh),
        "template": (row.template, source.template),
    }
    if row.decoding is not None and not settings.follow_ups:
        asked = row.decoding.num_prompts + row.num_skipped
        values["num_prompts"] = (asked, settings.num_prompts)
    if row.method != BASELINE:
        values["draft_temperature"] = (row.draft_temperature, sweep.draft_temperature)
        values["draft_top_k"] = (row.draft_top_k, sweep.draft_top_k)
        values["expected"] = (row.expected is not None, sweep.expected)
    found = [f"{name} {was} then, {now} now" for name, (was, now) in values.items() if was != now]
    return f" ({', '.join(found)})" if found else ""
