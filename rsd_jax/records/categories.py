"""The part of a row about the categories of prompts."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from rsd_jax.records import metrics
from rsd_jax.records.decoding import Stats, interval
from rsd_jax.records.metrics import Interval

OTHER = "-"
"""Stands for the category of prompts without one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Categories:
    """Counts by category of the prompts; categories are in the order of their first prompts.

    Attributes:
      category_prompts: prompts of each category.
      category_produced, category_blocks: as `produced` and `blocks` of `Decoding`.
      category_block_efficiency: produced / blocks.
      category_intervals: their 95 % bootstrap intervals over the prompts of a category; categories
        with a single prompt are missing.
      category_depths: number of blocks by accepted nodes, 0 to L.
    """

    category_prompts: dict[str, int]
    category_produced: dict[str, int]
    category_blocks: dict[str, int]
    category_block_efficiency: dict[str, float]
    category_intervals: dict[str, Interval]
    category_depths: dict[str, list[int]]

    @classmethod
    def of(cls, stats: Stats, categories: Sequence[str | None]) -> "Categories | None":
        """The part, from counts by prompt; None if no prompt has a category.

        Args:
          stats: counts of each prompt.
          categories: one per prompt, in the same order.
        """
        if not any(categories):
            return None
        own = np.asarray([name or OTHER for name in categories])
        places = {name: np.flatnonzero(own == name) for name in dict.fromkeys(own.tolist())}
        produced = {name: stats.produced[at] for name, at in places.items()}
        blocks = {name: stats.blocks[at] for name, at in places.items()}
        ends = {name: interval(produced[name], blocks[name]) for name in places}
        return cls(
            category_prompts={name: len(at) for name, at in places.items()},
            category_produced={name: int(each.sum()) for name, each in produced.items()},
            category_blocks={name: int(each.sum()) for name, each in blocks.items()},
            category_block_efficiency={
                name: metrics.block_efficiency(produced[name], blocks[name]) for name in places
            },
            category_intervals={name: each for name, each in ends.items() if each is not None},
            category_depths={
                name: stats.accepted_depths[at].sum(axis=0).tolist() for name, at in places.items()
            },
        )
