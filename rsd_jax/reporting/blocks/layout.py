"""Where the nodes of a block's tree stand: columns are depths."""

import dataclasses
from collections import Counter

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

    places: dict[int, tuple[int, int]]
    parents: dict[int, int]
    columns: int
    lines: int


def layout_of(record: BlockRecord) -> Layout:
    """Places siblings in draw order from top to bottom, the emitted token below them.

    A node stands on the line of its first child. Every subtree is as high up as the boxes before it
    allow; so chains are straight, and no two edges cross.
    """
    parents = {int(slot): int(record.parents[slot]) for slot in np.flatnonzero(record.valid)[1:]}
    parents[EMITTED] = int(record.path[-1]) if record.num_accepted else 0
    children: dict[int, list[int]] = {}
    for slot, parent in parents.items():
        children.setdefault(parent, []).append(slot)
    places: dict[int, tuple[int, int]] = {}
    free: Counter[int] = Counter()  # by column, the first line without a box on it or below it

    def place(slot: int, column: int, line: int) -> None:
        chain, last = [column], slot
        while last in children:
            chain, last = [*chain, chain[-1] + 1], children[last][0]
        line = max(line, *(free[each] for each in chain))
        places[slot], free[column] = (column, line), line + 1
        for child in children.get(slot, ()):
            place(child, column + 1, line)

    place(0, 0, 0)
    columns, lines = (1 + max(place[axis] for place in places.values()) for axis in (0, 1))
    return Layout(places, parents, columns, lines)
