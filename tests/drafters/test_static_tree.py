"""Static trees: the same as RSD-C where both exist, and their words."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rsd_jax
from rsd_jax.core.sampling import row_keys
from rsd_jax.core.warp import make_warp
from rsd_jax.drafters import TREE_RULES
from rsd_jax.drafters.growth import grow_tree
from rsd_jax.drafters.static_tree import StaticTree, parents_of_words
from rsd_jax.engine.methods import method_of_tree
from rsd_jax.testing.instances import log_tables, random_instances, table_score_level

_V, _ROWS = 5, 64
_INSTANCE = random_instances(_V, 3, 1, seed=2)[0]


def _grown(rule, temperature=1.0):
    score_level = table_score_level(rule.shape, log_tables(_INSTANCE.draft))
    root, none = jnp.zeros((_ROWS,), jnp.int32), jnp.zeros((_ROWS, 0), jnp.int32)
    keys = row_keys(3, jnp.arange(_ROWS, dtype=jnp.int32))
    return grow_tree(rule, score_level, none, root, warp=make_warp(temperature), keys=keys)[0]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_constant_branching_draws_the_same_tokens(temperature):
    by_parents = _grown(StaticTree(parents_of_words("3-2-1")), temperature)
    by_branching = _grown(TREE_RULES["constant_branching"]((3, 2, 1)), temperature)
    assert by_parents.shape == by_branching.shape
    jax.tree.map(np.testing.assert_array_equal, by_parents, by_branching)


def test_ranks_are_those_of_the_draw():
    """At T = 0 the children of a node are its likeliest tokens, in this order."""
    rule = StaticTree([-1, 0, 0, 2, 0, 4, 4, 2, 4])
    assert rule.words == "3-0.2.3"
    tree = _grown(rule, temperature=0.0)
    tokens, parents = np.asarray(tree.tokens)[0], rule.shape.static_parents
    for node in rule.shape.parent_slots.tolist():
        law = _INSTANCE.draft[0][0] if node == 0 else _INSTANCE.draft[1][tokens[node]]
        drawn = tokens[parents == node]
        np.testing.assert_array_equal(drawn, np.argsort(-law)[: len(drawn)])


def test_two_lists_of_a_tree_are_one_rule():
    one, other = StaticTree([-1, 0, 1, 0, 1]), StaticTree((-1, 0, 0, 1, 1))
    assert one == other
    assert hash(one) == hash(other)
    assert one.parents == (-1, 0, 0, 1, 1)


@pytest.mark.parametrize(
    "parents", [(-1, 0), (-1, 0, 1), (-1, 0, 0), (-1, 0, 0, 0, 2, 2, 3), (-1, 0, 0, 1, 2, 4)]
)
def test_words_name_the_tree(parents):
    rule = StaticTree(parents)
    assert parents_of_words(rule.words) == rule.parents
    assert method_of_tree("static", rule.words).drafter.rule == rule


@pytest.mark.parametrize("words", ["3-2.1", "2-0", "x", "", "2--1", "2-1.1-1.0.0", "-1", "2-+1.1"])
def test_words_that_name_no_tree(words):
    with pytest.raises(rsd_jax.ConfigError, match=r"method 'static' .* like '3-2.1.0'"):
        method_of_tree("static", words)


@pytest.mark.parametrize("words", ["65536", "9999-9999", "256-256"])
def test_words_of_a_tree_that_is_too_large(words):
    with pytest.raises(rsd_jax.ConfigError, match=r"tree '.*' has more than 65536 nodes"):
        method_of_tree("static", words)
