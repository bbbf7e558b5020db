"""Where two runs give other tokens, and how near to a tie the target's logits are there."""

import dataclasses
from collections.abc import Iterator, Sequence

import jax.numpy as jnp
import numpy as np

from rsd_jax.core.types import LoadedModel


@dataclasses.dataclass(frozen=True)
class Divergence:
    """The first difference of a row of two results.

    Attributes:
      row: row of the prompts.
      index: index of the new token; the length of the shorter output if the longer output begins
        with it; -1 if only the block counts differ.
      tokens: tokens of both results at `index`, None past the end.
    """

    row: int
    index: int
    tokens: tuple[int | None, int | None]


def first_divergences(
    first: Sequence[Sequence[int]], second: Sequence[Sequence[int]]
) -> Iterator[Divergence]:
    """The first difference of every row of tokens that differs."""
    for row, (one, two) in enumerate(zip(first, second, strict=True)):
        if list(one) != list(two):
            same = [a == b for a, b in zip(one, two, strict=False)]
            index = same.index(False) if False in same else len(same)
            at = tuple(tokens[index] if index < len(tokens) else None for tokens in (one, two))
            yield Divergence(row, index, (at[0], at[1]))


def margin(target: LoadedModel, prefix: Sequence[int]) -> float:
    """Gap between the two largest logits of the target after a prefix."""
    logits = target.model.score(target.params, jnp.asarray([list(prefix)], jnp.int32))
    second, first = np.sort(np.asarray(logits[0, -1], np.float64))[-2:]
    return float(first - second)
