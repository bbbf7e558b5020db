"""Trees that are parts of a wide one, with the law that they would have if they were drawn alone.

The first children of a node, in draw order, are distributed as if no more had been drawn; so are
the first chains of several, and, at T > 0, the first nodes of every level of a stochastic beam. So
one wide tree, drawn and scored once, holds a draw of every narrower tree.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from rsd_jax.core.tree import DraftTree, LawsFrom, SiblingLaw, TreeShape
from rsd_jax.core.types import NO_NODE
from rsd_jax.drafters import (
    ConstantBranching,
    IndependentChains,
    LookupDrafter,
    ModelDrafter,
    StaticTree,
    StochasticBeam,
)
from rsd_jax.drafters.base import Drafter
from rsd_jax.verifiers.base import TargetLaws

_Path = tuple[int, ...]  # ranks among siblings, from the root down


@dataclasses.dataclass(frozen=True)
class SubTree:
    """A drafter's tree as a part of a wider drafter's.

    Attributes:
      drafter: of the narrow tree.
      slots: of each node, the slot in the wide tree.
    """

    drafter: Drafter
    slots: tuple[int, ...]

    def tree(self, wide: DraftTree) -> DraftTree:
        """The narrow trees of a batch of wide ones."""
        slots, shape = np.asarray(self.slots), self.drafter.shape
        siblings, child_laws = SiblingLaw.carried(self.drafter.sibling_laws), wide.child_laws
        if siblings is not SiblingLaw.MIXED:
            child_laws = None
        internal = jnp.asarray(slots[: shape.num_internal], jnp.int32)
        if shape.static_parents is None:
            place = np.full(wide.shape.num_nodes, NO_NODE, np.int32)
            place[slots] = np.arange(len(slots))
            # Only invalid nodes can have a parent that the narrow tree lacks.
            above = jnp.asarray(np.asarray(shape.starts, np.int32)[np.maximum(shape.depths - 1, 0)])
            found = jnp.asarray(place)[wide.parents[:, slots]]
            parents = jnp.where(found == NO_NODE, above[None], found).at[:, 0].set(NO_NODE)
        else:
            known = jnp.asarray(shape.static_parents)
            parents = jnp.broadcast_to(known, (len(wide.tokens), len(slots)))
        return DraftTree(
            tokens=wide.tokens[:, slots],
            parents=parents,
            valid=wide.valid[:, slots],
            scores=wide.scores[:, slots],
            laws=LawsFrom(wide, jnp.broadcast_to(internal, (len(wide.tokens), len(internal)))),
            finite=wide.finite,
            shape=shape,
            siblings=siblings,
            child_laws=None if child_laws is None else child_laws[:, slots],
        )

    def target(self, wide: TargetLaws) -> TargetLaws:
        """The target's laws at the nodes of the narrow trees."""
        slots = jnp.asarray(self.slots, jnp.int32)
        if wide.places is not None:
            places = wide.places[:, slots]
        else:
            places = jnp.broadcast_to(slots, (len(wide.logits), len(slots)))
        return dataclasses.replace(wide, places=places)


def family(drafter: Drafter, *, greedy: bool) -> Any:
    """What drafters have in common whose trees are parts of one wide tree; hashable."""
    if isinstance(drafter, LookupDrafter):
        return LookupDrafter, drafter.longest, drafter.shortest
    rule = drafter.rule if isinstance(drafter, ModelDrafter) else None
    if isinstance(rule, StochasticBeam):
        # At T = 0 a narrow beam is no part of a wide one: a node's best child may rank below
        # children of worse nodes.
        return StochasticBeam, rule.width if greedy else None
    if isinstance(rule, IndependentChains):
        return IndependentChains
    return StaticTree if isinstance(rule, (ConstantBranching, StaticTree)) else drafter


def widest(drafters: Sequence[Drafter], *, greedy: bool) -> tuple[Drafter, list[SubTree]]:
    """A drafter that draws the trees of all drafters of one family at once, and where these are."""
    first = drafters[0]
    rules: list[Any] = [getattr(drafter, "rule", None) for drafter in drafters]
    wide = first
    if isinstance(first, LookupDrafter):
        wide = dataclasses.replace(first, length=max(drafter.shape.depth for drafter in drafters))
    elif isinstance(rules[0], StochasticBeam):
        beam = StochasticBeam(max(r.width for r in rules), max(r.length for r in rules))
        wide = ModelDrafter(beam)
    elif isinstance(rules[0], IndependentChains):
        chains = IndependentChains(max(r.num_drafts for r in rules), max(r.length for r in rules))
        wide = ModelDrafter(chains)
    elif family(first, greedy=greedy) is StaticTree:
        wide = ModelDrafter(StaticTree(_union([drafter.shape for drafter in drafters])))
    return wide, [SubTree(drafter, _slots(drafter.shape, wide.shape)) for drafter in drafters]


def _slots(narrow: TreeShape, wide: TreeShape) -> tuple[int, ...]:
    if narrow == wide:
        return tuple(range(wide.num_nodes))
    if narrow.child_counts is None or wide.child_counts is None:
        levels = zip(narrow.widths, wide.starts, strict=False)
        return tuple(start + node for width, start in levels for node in range(width))
    places = {path: slot for slot, path in enumerate(_paths(wide))}
    return tuple(places[path] for path in _paths(narrow))


def _paths(shape: TreeShape) -> list[_Path]:
    """The ranks on the way to each node of a static shape."""
    assert shape.static_parents is not None
    paths: list[_Path] = [()]
    children = [0] * shape.num_nodes
    for parent in shape.static_parents[1:]:
        paths.append((*paths[parent], children[parent]))
        children[parent] += 1
    return paths


def _union(shapes: Sequence[TreeShape]) -> tuple[int, ...]:
    """The parents of the smallest static tree that has every node of every shape."""
    every = sorted({path for shape in shapes for path in _paths(shape)}, key=lambda p: (len(p), p))
    places = {path: place for place, path in enumerate(every)}
    return tuple(places[path[:-1]] if path else NO_NODE for path in every)
