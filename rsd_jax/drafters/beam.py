"""The tree of a beam search, which draws nothing (dynamic trees of Li et al. 2024, EAGLE-2)."""

import dataclasses
from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from rsd_jax.core.tree import SiblingLaw
from rsd_jax.drafters.priority_tree import PriorityTree
from rsd_jax.drafters.tree_law import Levels, Prefix, Table, prefix_row


@dataclasses.dataclass(frozen=True)
class Beam(PriorityTree):
    """Each level keeps the W paths that are likeliest under the draft, at any temperature.

    Nothing is drawn, so every node is a point mass: the target's law decides alone which child is
    accepted, and a block is expected to produce 1 + the sum of the target's path probabilities of
    the nodes. The draft's temperature changes which paths of different length are likelier.

    EAGLE-2 keeps the likeliest nodes of all levels together, a fixed number of them. Here a
    threshold keeps the nodes that are likely enough.

    Fields as in `PriorityTree`.
    """

    method: ClassVar[str] = "beam"

    @property
    def sibling_laws(self) -> frozenset[SiblingLaw]:
        chain = {SiblingLaw.SINGLE} if self.width == 1 else set()
        return frozenset({SiblingLaw.POINT} | chain)

    def noise_rows(self, level: int) -> int:
        return 0

    def drawn_levels(self, draft: Table) -> Iterator[tuple[float, Levels]]:
        vocab = draft[0].shape[-1]
        levels: list[tuple[Prefix | None, ...]] = [((),)]
        values: dict[Prefix, float] = {(): 1.0}
        for laws in draft[: self.length]:
            nodes = [node for node in levels[-1] if node is not None]
            for node in nodes:
                law = laws[prefix_row(node, vocab)]
                values |= {(*node, int(x)): values[node] * law[x] for x in np.argsort(-law)}
            paths = [path for path in values if path[:-1] in nodes and path]
            likeliest = sorted(paths, key=lambda path: -values[path])[: self.width]
            kept = [path for path in likeliest if values[path] > self.threshold]
            levels.append((*kept, *[None] * (self.width - len(kept))))
        yield 1.0, tuple(levels)
