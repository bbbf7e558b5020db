"""Every tree that a rule can draw from a table, with its exact probability."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from rsd_jax.core.tree import TreeShape
from rsd_jax.core.types import NO_NODE
from rsd_jax.drafters import TREE_RULES
from rsd_jax.testing.instances import Table

Prefix = tuple[int, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class DrawnTrees:
    """Z trees and their probabilities; trees of probability 0 are left out.

    Attributes:
      shape: of all of them.
      probability: f64[Z], sums to 1.
      tokens, parents: i32[Z, N].
      valid: bool[Z, N].
    """

    shape: TreeShape
    probability: np.ndarray
    tokens: np.ndarray
    parents: np.ndarray
    valid: np.ndarray


class EnumerableRule(Protocol):
    """A rule of one's own whose trees can be enumerated."""

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
      rule: one of the package's `TREE_RULES`, or an `EnumerableRule`.
      draft: the table that it draws from.

    Raises:
      TypeError: the rule is neither.
    """
    if hasattr(rule, "drawn_trees"):
        return rule.drawn_trees(draft)
    for name, enumerate_rule in _ENUMERATORS.items():
        if isinstance(rule, TREE_RULES[name]):
            return enumerate_rule(rule, draft)
    raise TypeError(
        f"{type(rule).__name__} is not one of {sorted(_ENUMERATORS)}; give it a method "
        "`drawn_trees(draft) -> DrawnTrees`"
    )


def ordered_samples(law: np.ndarray, count: int) -> Iterator[tuple[float, Prefix]]:
    """Ordered samples of up to `count` tokens without replacement: (probability, tokens).

    A support smaller than `count` gives shorter samples.
    """
    support = [int(x) for x in np.flatnonzero(law)]
    for tokens in itertools.permutations(support, min(count, len(support))):
        probability, left = 1.0, 1.0
        for drawn, x in enumerate(tokens):
            # The last token of the support is certain; 1 - (drawn mass) would be off by an ulp.
            probability *= law[x] / left if drawn < len(support) - 1 else 1.0
            left = law[[y for y in support if y not in tokens[: drawn + 1]]].sum()
        yield float(probability), tokens


@dataclasses.dataclass(frozen=True)
class PredictableBranching:
    """Siblings without replacement, their number decided by the law and the first draw.

    The most general predictable rule on a tree with fixed slots; what is not drawn is invalid.

    Attributes:
      branching: slots per node of each level.
      count: from (law, first token) to the number of children, at least 1.
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

        return _grow(self.shape, draft, children)


@dataclasses.dataclass(frozen=True)
class PaddedSiblings:
    """The trees of a rule of depth 1 in a shape with more slots; those are invalid.

    Several rules then share one shape, and whatever is compiled for it.

    Attributes:
      rule: of depth 1.
      slots: children of the root.
    """

    rule: Any
    slots: int

    @property
    def shape(self) -> TreeShape:
        return TreeShape.from_branching((self.slots,))

    def drawn_trees(self, draft: Table) -> DrawnTrees:
        trees = drawn_trees(self.rule, draft)
        more = ((0, 0), (0, self.shape.num_nodes - trees.shape.num_nodes))
        return DrawnTrees(
            shape=self.shape,
            probability=trees.probability,
            tokens=np.pad(trees.tokens, more),
            parents=np.pad(trees.parents, more),
            valid=np.pad(trees.valid, more),
        )


def _grow(
    shape: TreeShape,
    draft: Table,
    children: Callable[[np.ndarray, int], Iterator[tuple[float, Prefix]]],
) -> DrawnTrees:
    """Trees with branching whose nodes draw their children independently of each other."""
    vocab = draft[0].shape[-1]
    # A level is a tuple of prefixes, None for an invalid node.
    trees: list[tuple[float, tuple[tuple[Prefix | None, ...], ...]]] = [(1.0, (((),),))]
    for level, slots in enumerate(shape.branching or ()):
        laws = draft[level]
        draws = [list(children(law, slots)) for law in laws]
        grown = []
        for probability, levels in trees:
            nodes = levels[-1]
            choices = [[(1.0, ())] if n is None else draws[prefix_row(n, vocab)] for n in nodes]
            for choice in itertools.product(*choices):
                below: list[Prefix | None] = []
                for node, (_, tokens) in zip(nodes, choice, strict=True):
                    below += [(*node, x) for x in tokens] if node is not None else []
                    below += [None] * (slots - len(tokens))
                weight = probability * float(np.prod([p for p, _ in choice]))
                grown.append((weight, (*levels, tuple(below))))
        trees = grown
    return pack_trees(shape, trees)


def prefix_row(prefix: Prefix, vocab: int) -> int:
    """The row of a prefix in the table of its length."""
    row = 0
    for token in prefix:
        row = row * vocab + token
    return row


def pack_trees(shape: TreeShape, trees: Sequence) -> DrawnTrees:
    """Arrays from [(probability, levels of prefixes)]."""
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
    return DrawnTrees(shape, probability, tokens, parents, valid)


def _constant_branching(rule, draft: Table) -> DrawnTrees:
    return _grow(rule.shape, draft, ordered_samples)


def _independent_chains(rule, draft: Table) -> DrawnTrees:
    def draws(law: np.ndarray, count: int) -> Iterator[tuple[float, Prefix]]:
        for tokens in itertools.product(np.flatnonzero(law).tolist(), repeat=count):
            yield float(np.prod(law[list(tokens)])), tokens

    return _grow(rule.shape, draft, draws)


def _stochastic_beam(rule, draft: Table) -> DrawnTrees:
    """A stochastic beam as an exponential race between all sequences (Kool et al. 2019, 3).

    The beam of level l is the first W prefixes of length l that a race with rates Q(sequence)
    reaches. Races are memoryless: once the deepest beam is full, the next prefix that a level
    above still misses is drawn in proportion to its probability, whatever happened before.
    """
    vocab, width, length = draft[0].shape[-1], rule.width, rule.length
    mass: dict[Prefix, float] = {(): 1.0}
    for level in range(length):
        for prefix in itertools.product(range(vocab), repeat=level):
            for x in range(vocab):
                mass[(*prefix, x)] = mass[prefix] * draft[level][prefix_row(prefix, vocab), x]
    trees = []

    def race(probability: float, level: int, seen: tuple[tuple[Prefix, ...], ...]) -> None:
        if level == 0:
            padded = [[*nodes, *[None] * (width - len(nodes))] for nodes in seen[1:]]
            trees.append((probability, (((),), *map(tuple, padded))))
            return
        left = [
            p
            for p in itertools.product(range(vocab), repeat=level)
            if p not in seen[level] and mass[p] > 0.0
        ]
        if len(seen[level]) == width or not left:
            race(probability, level - 1, seen)
            return
        total = sum(mass[p] for p in left)
        for prefix in left:
            after = tuple(
                (*nodes, prefix[:d])
                if 0 < d <= level and prefix[:d] not in nodes and len(nodes) < width
                else nodes
                for d, nodes in enumerate(seen)
            )
            race(probability * mass[prefix] / total, level, after)

    race(1.0, length, ((),) * (length + 1))
    return pack_trees(rule.shape, trees)


_ENUMERATORS: dict[str, Callable[..., DrawnTrees]] = {
    "constant_branching": _constant_branching,
    "independent_chains": _independent_chains,
    "stochastic_beam": _stochastic_beam,
}
