"""Where the nodes of a block's tree stand: a column per depth, and a line per leaf."""

import dataclasses

import numpy as np

from rsd_jax.records.blocks import BlockRecord

EMITTED = -1
"""The number of the emitted token among the nodes; slots are numbered from 0."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """A drawn tree.

    Attributes:
      places: column and line of every valid slot and of `EMITTED`; the root stands in column 0.
      parents: the slot that each of these but the root hangs on.
      columns, lines: how many there are.
    """

    places: dict[int, tuple[int, float]]
    parents: dict[int, int]
    columns: int
    lines: int


def layout_of(record: BlockRecord) -> Layout:
    """Places siblings in draw order from top to bottom, the emitted token below them.

    A node stands on the middle of the lines of its first and its last child.
    """
    parents = {int(slot): int(record.parents[slot]) for slot in np.flatnonzero(record.valid)[1:]}
    stop = int(record.path[-1]) if record.num_accepted else 0
    parents[EMITTED] = stop
    children: dict[int, list[int]] = {}
    for slot, parent in parents.items():
        children.setdefault(parent, []).append(slot)
    places: dict[int, tuple[int, float]] = {}
    lines = 0

    def place(slot: int, depth: int) -> float:
        nonlocal lines
        below = [place(child, depth + 1) for child in children.get(slot, ())]
        if below:
            line = (below[0] + below[-1]) / 2
        else:
            line, lines = float(lines), lines + 1
        places[slot] = (depth, line)
        return line

    place(0, 0)
    return Layout(places, parents, 1 + max(column for column, _ in places.values()), lines)
