"""A beam that draws nothing: which paths it holds, what a block produces, pass widths."""

import dataclasses
import itertools

import numpy as np
import pytest

from rsd_jax.core.tree import SiblingLaw
from rsd_jax.drafters import TREE_RULES, Beam, ModelDrafter
from rsd_jax.engine.methods import lossless_verifiers, method_of_tree
from rsd_jax.testing.decisions import make_problem
from rsd_jax.testing.drawn_trees import drawn_trees
from rsd_jax.testing.enumeration import assert_lossless, laws_of_stops, total_variations
from rsd_jax.testing.instances import KINDS, random_instances
from rsd_jax.testing.optimum.standings import tokens_per_block
from rsd_jax.testing.validation import validate_tree
from rsd_jax.verifiers import VERIFIERS
from tests.drafters.growing import grown

_RULES = (Beam(2, 2), Beam(3, 2, 0.15), Beam(1, 3, 0.4))
_DENSE = KINDS.index("dense")


@dataclasses.dataclass(frozen=True)
class TakenForDrawn(Beam):
    """The mutant: likeliest children that are verified as if they had been drawn."""

    @property
    def sibling_laws(self) -> frozenset[SiblingLaw]:
        return frozenset({SiblingLaw.WITHOUT_REPLACEMENT})


@pytest.mark.parametrize("rule", _RULES[1:], ids=str)
@pytest.mark.parametrize("name", ["recursive_rejection", "match", "block", "traversal", "coupling"])
def test_the_law_is_the_targets(name, rule):
    if name == "block" and rule.width > 1:
        pytest.skip("block verification takes chains")
    instances = random_instances(3, rule.length, len(KINDS), seed=3)
    assert assert_lossless(VERIFIERS[name](), rule, instances) < 1e-12


def test_likeliest_children_are_not_drawn_ones():
    instances = random_instances(3, 1, 2 * len(KINDS), seed=3)
    for name in ("recursive_rejection", "coupling"):
        tv = total_variations(VERIFIERS[name](), TakenForDrawn(2, 1), instances)
        print(f"{name}, likeliest children taken for drawn ones: TV {np.round(np.sort(tv), 3)}")
        assert np.median(tv) > 0.02


@pytest.mark.parametrize("rule", _RULES, ids=str)
def test_a_block_produces_one_and_the_probabilities_of_its_paths(rule):
    instances = random_instances(3, rule.length, 2 * len(KINDS), seed=4)
    trees = [drawn_trees(rule, instance.draft) for instance in instances]
    for name in ("recursive_rejection", "match", "block", "traversal", "coupling"):
        if name == "block" and rule.width > 1:
            continue
        laws = laws_of_stops(VERIFIERS[name](), make_problem(trees, instances), instances)
        for law, instance, tree in zip(laws, instances, trees, strict=True):
            expected = 1.0
            for node in np.flatnonzero(tree.valid[0])[1:]:
                path = []
                while node:
                    path.append(int(tree.tokens[0, node]))
                    node = tree.parents[0, node]
                row, probability = 0, 1.0
                for depth, token in enumerate(path[::-1]):
                    probability *= instance.target[depth][row, token]
                    row = 3 * row + token
                expected += probability
            assert tokens_per_block(law) == pytest.approx(expected, abs=1e-9), name


def test_paths_are_the_likeliest_and_depend_on_no_seed():
    instances = random_instances(5, 2, 2 * len(KINDS), seed=3)[_DENSE :: len(KINDS)]
    for instance, threshold in itertools.product(instances, (0.0, 0.1)):
        rule = Beam(3, 2, threshold)
        tree, other = grown(rule, instance.draft, 1.0), grown(rule, instance.draft, 1.0, seed=7)
        first, second = instance.draft
        chosen = np.argsort(-first[0])[:3]
        assert tree.valid[0, 1:4].tolist() == (first[0][chosen] > threshold).tolist()
        assert (tree.tokens[0, 1:4] == chosen)[tree.valid[0, 1:4]].all()
        chosen = chosen[first[0][chosen] > threshold]
        paths = np.sort((first[0][chosen, None] * second[chosen]).ravel())[::-1][:3]
        here = tree.valid[0, 4:7]
        assert here.tolist() == (paths > threshold).tolist()
        np.testing.assert_allclose(np.exp(tree.scores[0, 4:7])[here], paths[here], 1e-5)
        above = tree.tokens[0, tree.parents[0, 4:7]]
        held = first[0][above] * second[above, tree.tokens[0, 4:7]]
        np.testing.assert_allclose(held[here], paths[here])
        validate_tree(tree, 5)
        for field in ("tokens", "parents", "valid"):
            assert (getattr(tree, field) == getattr(other, field)).all()


def test_at_zero_temperature_three_rules_draft_one_tree():
    (instance,) = random_instances(5, 3, 1, seed=2)
    beam, *others = (
        grown(TREE_RULES[name](3, 3), instance.draft, 0.0)
        for name in ("beam", "stochastic_beam", "dyspec")
    )
    for other in others:
        for field in ("tokens", "parents", "valid"):
            assert (getattr(beam, field) == getattr(other, field)).all()


def test_words_widths_and_verifiers():
    for words in ("4x3", "4x3@0.05", "1x2+3"):
        assert method_of_tree("beam", words).tree == words
        assert method_of_tree("self_beam", words).tree == words
    assert Beam(4, 3).pass_widths is None
    assert ModelDrafter(Beam(4, 3, 0.1)).pass_widths == (2, 3, 5, 9, 13)
    assert "k_seq" not in lossless_verifiers(method_of_tree("beam", "2x2"))
    assert "block" in lossless_verifiers(method_of_tree("beam", "1x2"))
