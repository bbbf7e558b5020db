"""The tree of a beam search, which draws nothing (dynamic trees of Li et al. 2024, EAGLE-2)."""

import dataclasses
from typing import ClassVar

from rsd_jax.core.tree import SiblingLaw
from rsd_jax.drafters.priority_tree import PriorityTree


@dataclasses.dataclass(frozen=True)
class Beam(PriorityTree):
    """Each level keeps the W paths that are likeliest under the draft, at any temperature.

    Nothing is drawn, so every node is a point mass: the target's law decides alone which child is
    accepted, and a block is expected to produce 1 + the sum of the target's path probabilities of
    the nodes. The draft's temperature changes which paths with different parents are likelier, and
    which ones are above the threshold.

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
