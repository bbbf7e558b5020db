"""Enumerates every tree that a rule can draw from small laws, with its probability, in numpy.

The testing kit compares verifiers and sampled trees with this enumeration.
"""

import itertools
from collections.abc import Iterator

import numpy as np

from rsd_jax.core.tree import SiblingLaw, TreeShape
from rsd_jax.errors import ConfigError

Table = tuple[np.ndarray, ...]
"""A language model as laws over the next token: entry d is f64[V**d, V], one row per prefix of
d tokens; the index of a row is the prefix read as a number in base V."""

Prefix = tuple[int, ...]

Levels = tuple[tuple[Prefix | None, ...], ...]
"""A tree: for each level the prefix at each slot, None for an invalid node."""


def prefix_row(prefix: Prefix, vocab: int) -> int:
    """The row of a prefix in the table of its length."""
    row = 0
    for token in prefix:
        row = row * vocab + token
    return row


def ordered_samples(law: np.ndarray, count: int) -> Iterator[tuple[float, Prefix]]:
    """Ordered samples of up to `count` tokens without replacement: (probability, tokens).

    If the support is smaller than `count`, samples are shorter.
    """
    support = [int(x) for x in np.flatnonzero(law)]
    for tokens in itertools.permutations(support, min(count, len(support))):
        probability, left = 1.0, 1.0
        for drawn, x in enumerate(tokens):
            # The last token of the support is certain: exactly 1, without rounding.
            probability *= law[x] / left if drawn < len(support) - 1 else 1.0
            left = law[[y for y in support if y not in tokens[: drawn + 1]]].sum()
        yield float(probability), tokens


def independent_samples(law: np.ndarray, count: int) -> Iterator[tuple[float, Prefix]]:
    """Samples of `count` tokens, each from the same law: (probability, tokens)."""
    for tokens in itertools.product(np.flatnonzero(law).tolist(), repeat=count):
        yield float(np.prod(law[list(tokens)])), tokens


_SAMPLES = {
    SiblingLaw.IID: independent_samples,
    SiblingLaw.WITHOUT_REPLACEMENT: ordered_samples,
}


def trees_of_a_shape(
    shape: TreeShape, siblings: SiblingLaw, draft: Table
) -> Iterator[tuple[float, Levels]]:
    """Trees of a static shape whose nodes draw their children independently of each other.

    Args:
      shape: a shape with `child_counts`.
      siblings: `IID` or `WITHOUT_REPLACEMENT`, for every node.
      draft: the laws that children are drawn from.

    Raises:
      ConfigError: the shape is not static, or `siblings` is another law.
    """
    if shape.child_counts is None or siblings not in _SAMPLES:
        raise ConfigError(
            f"trees of shape {shape} with {siblings.value} siblings cannot be enumerated; "
            "override `drawn_levels` in the rule"
        )
    return grow_levels(shape.child_counts, _SAMPLES[siblings], draft)


def grow_levels(child_counts, samples, draft: Table) -> Iterator[tuple[float, Levels]]:
    """Trees whose nodes draw their children independently of each other.

    Args:
      child_counts: slots for the children of each node, level by level.
      samples: maps (law f64[V], slots) to an iterator of (probability, tokens of the children).
      draft: the laws.
    """
    vocab = draft[0].shape[-1]
    trees: list[tuple[float, Levels]] = [(1.0, (((),),))]
    for level, counts in enumerate(child_counts):
        draws = {
            slots: [list(samples(law, slots)) for law in draft[level]] for slots in set(counts)
        }
        grown = []
        for probability, levels in trees:
            nodes = list(zip(levels[-1], counts, strict=True))
            choices = [
                [(1.0, ())] if node is None else draws[slots][prefix_row(node, vocab)]
                for node, slots in nodes
            ]
            for choice in itertools.product(*choices):
                below: list[Prefix | None] = []
                for (node, slots), (_, tokens) in zip(nodes, choice, strict=True):
                    below += [(*node, x) for x in tokens] if node is not None else []
                    below += [None] * (slots - len(tokens))
                weight = probability * float(np.prod([p for p, _ in choice]))
                grown.append((weight, (*levels, tuple(below))))
        trees = grown
    yield from trees
