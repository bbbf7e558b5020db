"""Counts by category of the prompts."""

import types

import numpy as np
import pytest

from rsd_jax.records import metrics
from rsd_jax.records.categories import Categories

_STATS = types.SimpleNamespace(
    blocks=np.array([4, 2, 4, 1]),
    produced=np.array([8, 6, 4, 3]),
    accepted_depths=np.array([[1, 2, 1], [0, 0, 2], [4, 0, 0], [0, 0, 1]]),
    accepted_ranks=np.zeros((4, 1), int),
)


def test_counts_by_category():
    part = Categories.of(_STATS, ["rag", "qa", "rag", None])
    assert part.category_prompts == {"rag": 2, "qa": 1, "-": 1}
    assert list(part.category_prompts) == ["rag", "qa", "-"]
    assert part.category_produced == {"rag": 12, "qa": 6, "-": 3}
    assert part.category_blocks == {"rag": 8, "qa": 2, "-": 1}
    assert part.category_block_efficiency == pytest.approx({"rag": 1.5, "qa": 3.0, "-": 3.0})
    assert part.category_depths == {"rag": [5, 2, 1], "qa": [0, 0, 2], "-": [0, 0, 1]}
    own = metrics.bootstrap_interval(_STATS.produced[[0, 2]], _STATS.blocks[[0, 2]])
    assert part.category_intervals == {"rag": own}


def test_prompts_without_categories_have_no_part():
    assert Categories.of(_STATS, [None] * 4) is None
