"""Tests the law of the drafted trees, on which the output law does not depend.

Every chi-square has a false-alarm rate of 1e-6 and 100,000 samples, 25 / TV^2 for a total
variation of .016; each mutant of the beam has a median of .05 and more.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsd_jax.core.sampling import row_keys
from rsd_jax.core.tree import DraftTree, PointLaws, SiblingLaw
from rsd_jax.core.warp import make_warp
from rsd_jax.drafters import TREE_RULES
from rsd_jax.drafters.growth import grow_tree
from rsd_jax.testing.candidate_trees import CandidateTrees
from rsd_jax.testing.drawn_trees import drawn_trees, ordered_samples
from rsd_jax.testing.instances import (
    KINDS,
    log,
    log_tables,
    random_instances,
    sequence_law,
    table_score_level,
)
from rsd_jax.testing.monte_carlo import ROWS, level_prefixes, sample_trees, tree_counts
from rsd_jax.testing.statistics import chi_square, power
from rsd_jax.testing.validation import validate_tree
from tests import small_parts
from tests.mutants.beam_mutants import BEAM_FAULTS, FaultyBeam
from tests.mutants.law_mutants import most_likely
from tests.parts.likeliest_first import LikeliestFirst

FALSE_ALARM = 1e-6
V = 3

_RULES = (
    *(rule for rule in small_parts.largest_of_each_rule() if not hasattr(rule, "threshold")),
    TREE_RULES["dyspec"](2, 2, 0.3),
    TREE_RULES["beam"](3, 2, 0.15),
    TREE_RULES["mixed_beam"](3, 2, 0.1),
    CandidateTrees(2, 0.3, (0.7, 0.4), (1, 2, 3), (1, 2, 3)),
    LikeliestFirst(2),
)


_INSTANCES = random_instances(V, 2, 4 * len(KINDS), seed=1)
_DENSE = _INSTANCES[KINDS.index("dense") :: len(KINDS)]


@pytest.mark.parametrize("rule", _RULES, ids=str)
def test_trees_follow_their_enumerated_law(rule):
    """Also for supports smaller than the branching, where the excess children are invalid."""
    small = 0
    for instance in _INSTANCES[: len(KINDS)]:
        trees = drawn_trees(rule, instance.draft)
        small += (~trees.valid).any()
        sampled = sample_trees(rule, instance.draft)
        validate_tree(sampled, V)
        counts = tree_counts(trees, sampled)
        check = chi_square(counts, np.append(trees.probability, 0.0), false_alarm=FALSE_ALARM)
        assert check.passed, check
        assert power(0.03, ROWS, check.degrees, false_alarm=FALSE_ALARM) > 0.99
    assert small or SiblingLaw.IID in rule.sibling_laws


def test_trees_that_cannot_be_drawn_are_counted_apart():
    """One tree is known, of a law with all its mass on a chain; another law draws others too."""
    rule = TREE_RULES["constant_branching"]((1, 1))
    draft = _DENSE[0].draft
    (known, others) = tree_counts(drawn_trees(rule, most_likely(draft)), sample_trees(rule, draft))
    assert known + others == ROWS
    chain = draft[0].max() * draft[1][draft[0].argmax()].max()
    assert known / ROWS == pytest.approx(chain, abs=0.01)


def _ordered_pairs(law: np.ndarray) -> np.ndarray:
    """f64[n, n]: Pr[first = u, second = v] = Q(u) Q(v) / (1 - Q(u)), and 0 on the diagonal."""
    pairs = np.zeros((len(law), len(law)))
    for u in range(len(law)):
        for v in range(len(law)):
            if u != v:
                pairs[u, v] = law[u] * law[v] / (1.0 - law[u])
    return pairs


def _check_levels(rule, instance):
    """Chi-square of each level against ordered sampling without replacement from Q."""
    sampled = sample_trees(rule, instance.draft)
    scores = np.asarray(sampled.scores)
    for level in (1, 2):
        here = scores[:, sampled.shape.level(level)]
        assert (here[:, 0] >= here[:, 1]).all()
        law = sequence_law(instance.draft[:level])
        counts = np.zeros((len(law), len(law)))
        first, second = level_prefixes(sampled, level, V).T
        np.add.at(counts, (first, second), 1.0)
        yield chi_square(
            counts.reshape(-1), _ordered_pairs(law).reshape(-1), false_alarm=FALSE_ALARM
        )


def test_a_beam_is_an_ordered_sample_of_prefixes():
    for instance in _DENSE:
        for check in _check_levels(TREE_RULES["stochastic_beam"](2, 2), instance):
            assert check.passed, check


@pytest.mark.parametrize("fault", BEAM_FAULTS)
def test_a_wrong_beam_is_caught(fault):
    found = [list(_check_levels(FaultyBeam(2, 2, fault=fault), i)) for i in _DENSE]
    tv = np.asarray([max(check.tv for check in checks) for checks in found])
    caught = np.asarray([not all(check.passed for check in checks) for checks in found])
    print(f"beam, {fault}: TV of the tree law {np.round(tv, 3)}, caught {caught}")
    enough = 25 / tv**2 <= ROWS
    assert caught[enough].all()
    assert enough.sum() >= 3
    assert np.median(tv) > 0.05


def test_enumerated_beam_agrees_with_the_formula():
    """The race behind `drawn_trees`, against the closed form of each level."""
    rule = TREE_RULES["stochastic_beam"](2, 2)
    for instance in _DENSE:
        trees = drawn_trees(rule, instance.draft)
        for level in (1, 2):
            law = sequence_law(instance.draft[:level])
            tokens, parents = trees.tokens[:, rule.shape.level(level)], trees.parents
            if level == 2:
                above = trees.tokens[np.arange(len(tokens))[:, None], parents[:, 3:5]]
                tokens = above * V + tokens
            pairs = np.zeros((len(law), len(law)))
            np.add.at(pairs, (tokens[:, 0], tokens[:, 1]), trees.probability)
            np.testing.assert_allclose(pairs, _ordered_pairs(law), atol=1e-12)


def test_ordered_samples_of_a_small_support():
    law = np.asarray([0.25, 0.0, 0.75])
    samples = dict((tokens, p) for p, tokens in ordered_samples(law, 3))
    assert samples == {(0, 2): 0.25, (2, 0): 0.75}


# Greedy trees: nothing is drawn, and ties go to the lowest id.


def _greedy_tree(rule, table) -> DraftTree:
    @jax.jit
    def grow(table):
        tree, _ = grow_tree(
            rule,
            table_score_level(rule.shape, table),
            jnp.zeros((1, 0), jnp.int32),
            jnp.zeros((1,), jnp.int32),
            warp=make_warp(0.0),
            keys=row_keys(0, jnp.arange(1)),
        )
        return tree

    return jax.device_get(grow(log_tables(table)))


def _paths(tree: DraftTree, level: int) -> list[tuple[int, ...]]:
    out = []
    for node in range(*tree.shape.level(level).indices(tree.shape.num_nodes)):
        path: tuple[int, ...] = ()
        while node:
            path, node = (int(tree.tokens[0, node]), *path), int(tree.parents[0, node])
        out.append(path)
    return out


def test_greedy_beam_keeps_the_most_likely_prefixes():
    """The deterministic beam search of width W, written as a loop over lists."""
    (instance,) = random_instances(5, 3, 1, seed=3)
    tree = _greedy_tree(TREE_RULES["stochastic_beam"](3, 3), instance.draft)
    beam = [((), 0.0)]
    for level in range(3):
        laws, grown = log(instance.draft[level]), []
        for prefix, phi in beam:
            row = sum(x * 5**k for k, x in enumerate(reversed(prefix)))
            grown += [((*prefix, x), phi + laws[row, x]) for x in range(5)]
        beam = sorted(grown, key=lambda item: -item[1])[:3]
        assert _paths(tree, level + 1) == [prefix for prefix, _ in beam]
        phi = tree.scores[0, tree.shape.level(level + 1)]
        np.testing.assert_allclose(phi, [phi for _, phi in beam], atol=1e-5)


def test_greedy_branching_takes_the_top_and_breaks_ties_by_id():
    uniform = tuple(np.full((4**level, 4), 0.25) for level in range(2))
    tree = _greedy_tree(TREE_RULES["constant_branching"]((2, 2)), uniform)
    assert _paths(tree, 2) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    tree = _greedy_tree(TREE_RULES["independent_chains"](3, 2), uniform)
    assert _paths(tree, 2) == [(0, 0)] * 3  # greedy drafts coincide


# The validator.


def test_the_validator_names_what_is_broken():
    (instance,) = random_instances(V, 2, 1)
    rule = TREE_RULES["constant_branching"]((2, 2))
    tree = _greedy_tree(rule, instance.draft)
    validate_tree(tree, V, sampling=SiblingLaw.WITHOUT_REPLACEMENT)

    def broken(**changes) -> DraftTree:
        fields = {}
        for name, (slot, value) in changes.items():
            fields[name] = np.array(getattr(tree, name))
            fields[name][0, slot] = value
        return tree.replace(**fields)

    for wrong, message in (
        (broken(valid=(0, False)), "the root is valid"),
        (broken(parents=(0, 0)), "the root has no parent"),
        (broken(tokens=(3, V)), "tokens lie in the vocabulary"),
        (broken(parents=(3, 0)), "parents of level 2 lie in the level above"),
        (broken(parents=(3, 2)), "parents are those of the shape"),
        (broken(valid=(2, False)), "a valid node has a valid parent"),
        (broken(valid=(3, False)), "no invalid sibling before it"),
        (broken(scores=(2, 9.0)), "descend in score"),
        (broken(tokens=(2, tree.tokens[0, 1])), "differ"),
        (tree.replace(tokens=tree.tokens.astype(np.int64)), "int32"),
    ):
        with pytest.raises(AssertionError, match=message):
            validate_tree(wrong, V, sampling=SiblingLaw.WITHOUT_REPLACEMENT)
    point = PointLaws(proposals=jnp.full((1, 3), 2, jnp.int32), vocab_size=V)
    with pytest.raises(AssertionError, match="finite log probability"):
        validate_tree(tree.replace(laws=point), V)
