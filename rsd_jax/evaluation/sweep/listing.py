"""The cells of a sweep as text, with an estimate of their time."""

import textwrap
from collections.abc import Sequence

from rsd_jax.evaluation.sweep.cells import Cell, all_cells, turns
from rsd_jax.evaluation.sweep.definition import Sweep
from rsd_jax.evaluation.sweep.estimate import TimeEstimate, in_words
from rsd_jax.records.rows import variant


def listing(sweep: Sweep, missing: Sequence[Cell], estimate: TimeEstimate) -> str:
    """What is to be measured: a paragraph per pair, task, temperature and seed.

    Args:
      sweep: the settings.
      missing: cells without a row, in the order of measuring.
      estimate: from the rows that exist.
    """
    groups: dict[tuple[str, str, float, int], list[Cell]] = {}
    for cell in missing:
        groups.setdefault((cell.pair, cell.task, cell.temperature, cell.seed), []).append(cell)
    lines = []
    for (pair, task, temperature, seed), cells in groups.items():
        seconds = estimate.turns(turns(sweep, cells))
        settings = sweep.tasks[task]
        lines.append(
            f"{pair} on {task}, {settings.num_prompts} prompts of up to "
            f"{settings.max_new_tokens} new tokens, T = {temperature:g}, seed {seed}: "
            f"{len(cells)} cells, about {in_words(seconds)}"
        )
        trees: dict[str, list[str]] = {}
        for name, tree, verifier in (cell.method for cell in cells):
            trees.setdefault(variant(name, verifier), []).append(tree)
        for name, listed in trees.items():
            text = f"{name:7} {' '.join(listed)}"
            lines += textwrap.wrap(text, 100, initial_indent="  ", subsequent_indent=" " * 10)
    total = len(all_cells(sweep))
    left = in_words(estimate.turns(turns(sweep, missing)))
    lines.append(
        f"{total} cells, {total - len(missing)} done, {len(missing)} to measure: about {left}"
    )
    return "\n".join(lines)
