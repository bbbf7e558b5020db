"""A part of a wide tree is distributed as the narrow tree that it stands for, by enumeration."""

import jax.numpy as jnp
import numpy as np
import pytest

from rsd_jax.core.tree import DenseLaws, DraftTree
from rsd_jax.drafters import (
    ConstantBranching,
    IndependentChains,
    LookupDrafter,
    ModelDrafter,
    StaticTree,
    StochasticBeam,
)
from rsd_jax.planning.sub_trees import family, widest
from rsd_jax.testing.drawn_trees import drawn_trees
from rsd_jax.testing.instances import random_instances

FAMILIES = {
    "by node": (
        ConstantBranching((1, 1)),
        ConstantBranching((2, 1)),
        StaticTree((-1, 0, 0, 2, 2)),
    ),
    "chains": (IndependentChains(1, 2), IndependentChains(2, 1), IndependentChains(2, 2)),
    "beams": (
        StochasticBeam(2, 1),
        StochasticBeam(1, 2),
        StochasticBeam(3, 2),
        StochasticBeam(2, 2),
    ),
}


def _law(tokens, parents, valid, probability):
    """{tree: probability}; a tree is its valid nodes with token and parent."""
    law = {}
    for row, weight in enumerate(probability):
        nodes = np.flatnonzero(valid[row])
        key = tuple((int(n), int(tokens[row, n]), int(parents[row, n])) for n in nodes)
        law[key] = law.get(key, 0.0) + weight
    return law


@pytest.mark.parametrize("name", FAMILIES)
def test_parts_have_the_law_of_narrow_trees(name):
    drafters = [ModelDrafter(rule) for rule in FAMILIES[name]]
    assert len({family(drafter, greedy=False) for drafter in drafters}) == 1
    wide, parts = widest(drafters, greedy=False)
    for instance in random_instances(3, 2, 4, seed=1):
        drawn = drawn_trees(wide.rule, instance.draft)
        rows, internal = len(drawn.tokens), wide.shape.num_internal
        tree = DraftTree(
            tokens=jnp.asarray(drawn.tokens),
            parents=jnp.asarray(drawn.parents),
            valid=jnp.asarray(drawn.valid),
            scores=jnp.zeros(drawn.tokens.shape),
            laws=DenseLaws(jnp.zeros((rows, internal, 3))),
            finite=jnp.ones(rows, bool),
            shape=wide.shape,
            siblings=drawn.siblings,
        )
        for drafter, part in zip(drafters, parts, strict=True):
            assert part.drafter == drafter
            ours = part.tree(tree)
            found = _law(
                *map(np.asarray, (ours.tokens, ours.parents, ours.valid)), drawn.probability
            )
            other = drawn_trees(drafter.rule, instance.draft)
            expected = _law(other.tokens, other.parents, other.valid, other.probability)
            assert ours.shape == drafter.shape
            assert set(found) == set(expected)
            for key, weight in expected.items():
                assert found[key] == pytest.approx(weight, abs=1e-12)


def test_a_narrow_greedy_beam_is_a_family_of_its_own():
    wide, narrow = (ModelDrafter(StochasticBeam(width, 2)) for width in (3, 2))
    assert family(wide, greedy=True) != family(narrow, greedy=True)
    longer = ModelDrafter(StochasticBeam(2, 4))
    assert family(longer, greedy=True) == family(narrow, greedy=True)


def test_lookups_of_several_lengths_are_one_family():
    lengths = [LookupDrafter(length) for length in (2, 8, 4)]
    wide, parts = widest(lengths, greedy=True)
    assert wide == LookupDrafter(8)
    assert [part.slots for part in parts] == [tuple(range(1 + n)) for n in (2, 8, 4)]
    assert family(LookupDrafter(2), greedy=True) != family(LookupDrafter(2, 4), greedy=True)
