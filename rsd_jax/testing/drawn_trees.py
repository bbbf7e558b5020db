"""Every tree that a rule can draw from a table, with its exact probability."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import numpy as np

from rsd_jax.core.tree import SiblingLaw, TreeShape
from rsd_jax.core.types import NO_NODE
from rsd_jax.drafters import TreeRule
from rsd_jax.drafters.tree_law import Levels, Prefix, Table, grow_levels, ordered_samples


@dataclasses.dataclass(frozen=True, eq=False)
class DrawnTrees:
    """Z trees and their probabilities; trees of probability 0 are left out.

    Attributes:
      shape: shape of all trees.
      probability: f64[Z], sums to 1.
      tokens, parents: i32[Z, N].
      valid: bool[Z, N].
      siblings: the law that children were drawn from, as in `DraftTree`.
      child_laws: i8[Z, N] for `MIXED` siblings, as in `DraftTree`.
    """

    shape: TreeShape
    probability: np.ndarray
    tokens: np.ndarray
    parents: np.ndarray
    valid: np.ndarray
    siblings: SiblingLaw = SiblingLaw.WITHOUT_REPLACEMENT
    child_laws: np.ndarray | None = None


class EnumerableRule(Protocol):
    """Your own rule, with a function that enumerates its trees."""

    @property
    def shape(self) -> TreeShape:
        """Static shape of the trees."""
        ...

    def drawn_trees(self, draft: Table) -> DrawnTrees:
        """All trees drawn from a table."""
        ...


def drawn_trees(rule: Any, draft: Table) -> DrawnTrees:
    """Enumerates the trees of a rule.

    Args:
      rule: a `TreeRule` or an `EnumerableRule`.
      draft: the table that the rule draws from.

    Raises:
      TypeError: the rule is neither.
    """
    if hasattr(rule, "drawn_trees"):
        return rule.drawn_trees(draft)
    if isinstance(rule, TreeRule):
        siblings = SiblingLaw.carried(rule.sibling_laws)
        trees = pack_trees(rule.shape, rule.drawn_levels(draft), siblings)
        return _with_laws(trees, rule) if siblings is SiblingLaw.MIXED else trees
    raise TypeError(
        f"{type(rule).__name__} is not a TreeRule; add a method `drawn_trees(draft) -> DrawnTrees`"
    )


def _with_laws(trees: DrawnTrees, rule: TreeRule) -> DrawnTrees:
    """Trees of mixed siblings with the law of each child, by its rank."""
    codes = [rule.law_of_rank(rank).code for rank in range(trees.shape.max_siblings)]
    nodes = np.arange(trees.shape.num_nodes)
    together = trees.parents[:, :, None] == trees.parents[:, None]
    earlier = together & trees.valid[:, None] & (nodes < nodes[:, None])
    ranks = np.minimum(earlier.sum(axis=-1), len(codes) - 1)  # unused slots may have any
    return dataclasses.replace(trees, child_laws=np.asarray(codes, np.int8)[ranks])


@dataclasses.dataclass(frozen=True)
class PredictableBranching:
    """Siblings without replacement; their number depends on the law and the first draw.

    The most general predictable rule on a tree with fixed slots; slots not drawn are invalid.

    Attributes:
      branching: slots per node of each level.
      count: maps (law, first token) to the number of children, at least 1.
    """

    branching: tuple[int, ...]
    count: Callable[[np.ndarray, int], int]

    @property
    def shape(self) -> TreeShape:
        return TreeShape.from_branching(self.branching)

    def drawn_trees(self, draft: Table) -> DrawnTrees:
        def children(law: np.ndarray, slots: int) -> Iterator[tuple[float, Prefix]]:
            for first in np.flatnonzero(law).tolist():
                for probability, tokens in ordered_samples(law, min(slots, self.count(law, first))):
                    if tokens[0] == first:
                        yield probability, tokens

        return pack_trees(self.shape, grow_levels(self.shape.child_counts, children, draft))


@dataclasses.dataclass(frozen=True)
class MixedSiblings:
    """Siblings of several laws at every node, in draw order.

    A point mass proposes the likeliest token, even if an earlier sibling has this token. If no
    token is left for a sibling without replacement, this sibling and all later ones are invalid.

    Attributes:
      branching: slots per node of each level.
      laws: `IID`, `WITHOUT_REPLACEMENT` or `POINT` for each sibling; at least as many as slots.
    """

    branching: tuple[int, ...]
    laws: tuple[SiblingLaw, ...]

    @property
    def shape(self) -> TreeShape:
        return TreeShape.from_branching(self.branching)

    @property
    def sibling_laws(self) -> frozenset[SiblingLaw]:
        return frozenset({SiblingLaw.MIXED})

    def drawn_trees(self, draft: Table) -> DrawnTrees:
        drawn = grow_levels(self.shape.child_counts, self._siblings, draft)
        trees = pack_trees(self.shape, drawn, SiblingLaw.MIXED)
        codes = [law.code for law in self.laws]
        levels = zip(self.shape.widths, self.branching, strict=False)
        row = [0, *(code for width, b in levels for code in codes[:b] * width)]
        child_laws = np.tile(np.asarray(row, np.int8), (len(trees.tokens), 1))
        return dataclasses.replace(trees, child_laws=child_laws)

    def _siblings(self, law: np.ndarray, slots: int) -> Iterator[tuple[float, Prefix]]:
        def extend(probability: float, tokens: Prefix) -> Iterator[tuple[float, Prefix]]:
            q = law.copy()
            if len(tokens) < slots and self.laws[len(tokens)] is SiblingLaw.POINT:
                q = np.eye(len(law))[law.argmax()]
            elif len(tokens) < slots and self.laws[len(tokens)] is SiblingLaw.WITHOUT_REPLACEMENT:
                q[list(tokens)] = 0.0
            if len(tokens) == slots or not q.any():
                yield probability, tokens
                return
            for x in np.flatnonzero(q).tolist():
                yield from extend(probability * q[x] / q.sum(), (*tokens, x))

        return extend(1.0, ())


@dataclasses.dataclass(frozen=True)
class PaddedSiblings:
    """The trees of a rule of depth 1, with invalid slots added.

    Several rules thus share one shape and the programs compiled for it.

    Attributes:
      rule: a rule of depth 1.
      slots: children of the root, invalid slots included.
    """

    rule: Any
    slots: int

    @property
    def shape(self) -> TreeShape:
        return TreeShape.from_branching((self.slots,))

    @property
    def sibling_laws(self) -> frozenset[SiblingLaw]:
        return self.rule.sibling_laws

    def drawn_trees(self, draft: Table) -> DrawnTrees:
        trees = drawn_trees(self.rule, draft)
        more = ((0, 0), (0, self.shape.num_nodes - trees.shape.num_nodes))
        padded: dict[str, Any] = {
            field: np.pad(values, more)
            for field in ("tokens", "parents", "valid", "child_laws")
            if (values := getattr(trees, field)) is not None
        }
        return dataclasses.replace(trees, shape=self.shape, **padded)


def pack_trees(
    shape: TreeShape,
    drawn: Iterable[tuple[float, Levels]],
    siblings: SiblingLaw = SiblingLaw.WITHOUT_REPLACEMENT,
) -> DrawnTrees:
    """`DrawnTrees` from pairs of a probability and a tree."""
    trees = list(drawn)
    size = (len(trees), shape.num_nodes)
    tokens, valid = np.zeros(size, np.int32), np.zeros(size, bool)
    static = shape.static_parents
    parents = np.zeros(size, np.int32) if static is None else np.tile(static, (len(trees), 1))
    parents[:, 0] = NO_NODE
    for z, (_, levels) in enumerate(trees):
        for level, nodes in enumerate(levels):
            for i, prefix in enumerate(nodes):
                slot = shape.starts[level] + i
                valid[z, slot] = prefix is not None
                if prefix:
                    tokens[z, slot] = prefix[-1]
                if static is None and level:
                    above = 0 if prefix is None else levels[level - 1].index(prefix[:-1])
                    parents[z, slot] = shape.starts[level - 1] + above
    probability = np.asarray([p for p, _ in trees])
    np.testing.assert_allclose(probability.sum(), 1.0, atol=1e-9)
    return DrawnTrees(shape, probability, tokens, parents, valid, siblings)
