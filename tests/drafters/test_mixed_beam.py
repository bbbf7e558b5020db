"""A beam with one drawn child at each node: its law, three mutants, which slots it has."""

import dataclasses

import numpy as np
import pytest

from rsd_jax.core.tree import SiblingLaw
from rsd_jax.drafters import TREE_RULES, Beam, MixedBeam
from rsd_jax.drafters.priority_tree import Contenders, PriorityTree
from rsd_jax.engine.methods import lossless_verifiers, method_of_tree
from rsd_jax.testing.drawn_trees import drawn_trees
from rsd_jax.testing.enumeration import assert_lossless, total_variations
from rsd_jax.testing.instances import KINDS, random_instances
from rsd_jax.testing.monte_carlo import sample_trees, tree_counts
from rsd_jax.testing.statistics import chi_square
from rsd_jax.testing.validation import validate_tree
from rsd_jax.verifiers import VERIFIERS
from tests.drafters.growing import grown

_RULES = (MixedBeam(3, 2, 0.1), MixedBeam(2, 3), MixedBeam(4, 1), MixedBeam(1, 2))
_VERIFIERS = ("recursive_rejection", "match", "traversal", "coupling")


@dataclasses.dataclass(frozen=True)
class Pairs(MixedBeam):
    """No mutant: nodes have no more children than the likeliest and the drawn one."""

    def siblings(self, law):
        for probability, children in super().siblings(law):
            yield probability, [children[0], *(self.drawn(law, child) for child in children[1:2])]

    def drawn(self, law, child):
        return child


@dataclasses.dataclass(frozen=True)
class RankedByItsToken(Pairs):
    """The mutant: the drawn child has the probability of its token as its priority."""

    def drawn(self, law, child):
        return law[child[1]], child[1]


@dataclasses.dataclass(frozen=True)
class DroppedAfterALook(Pairs):
    """The mutant: a drawn token that the draft gives less than a quarter is dropped."""

    def drawn(self, law, child):
        return child if law[child[1]] >= 0.25 else (0.0, child[1])


@dataclasses.dataclass(frozen=True)
class NotConditioned(Pairs):
    """The mutant: the law of the drawn child still holds the likeliest token."""

    def law_of_rank(self, rank):
        return SiblingLaw.IID if rank == 1 else SiblingLaw.POINT


@dataclasses.dataclass(frozen=True)
class OthersAreNotSkipped(MixedBeam):
    """The mutant of the program: a likeliest token stays where it is also the drawn one."""

    def contenders(self, logprobs, value, noise):
        right = super().contenders(logprobs, value, noise)
        fixed = PriorityTree.contenders(self, logprobs, value, None)
        return Contenders(
            *(r.at[..., 2:].set(f[..., 2:]) for r, f in zip(right, fixed, strict=True))
        )


@pytest.mark.parametrize("rule", _RULES, ids=str)
@pytest.mark.parametrize("name", _VERIFIERS)
def test_the_law_is_the_targets(name, rule):
    vocab = 4 if rule.length == 1 else 3
    instances = random_instances(vocab, rule.length, len(KINDS), seed=3)
    assert assert_lossless(VERIFIERS[name](), rule, instances) < 1e-12


@pytest.mark.parametrize("mutant", [RankedByItsToken, DroppedAfterALook, NotConditioned])
def test_mutants_are_caught(mutant):
    instances = random_instances(3, 2, 4 * len(KINDS), seed=3)
    for name in ("recursive_rejection", "coupling"):
        tv = total_variations(VERIFIERS[name](), mutant(2, 2), instances)
        print(f"{mutant.__name__}, {name}: TV {np.round(np.sort(tv)[::-1], 3)}")
        assert tv.max() > 0.05  # where drawn children compete for the slots of a level
        assert assert_lossless(VERIFIERS[name](), Pairs(2, 2), instances) < 1e-12


def test_a_wrong_program_is_caught_by_the_law_of_its_trees():
    rule, (instance,) = OthersAreNotSkipped(3, 2, 0.1), random_instances(3, 2, 1, seed=2)
    trees = drawn_trees(MixedBeam(3, 2, 0.1), instance.draft)
    for wrong, passed in ((rule, False), (MixedBeam(3, 2, 0.1), True)):
        counts = tree_counts(trees, sample_trees(wrong, instance.draft))
        law = np.append(trees.probability, 0.0)
        assert chi_square(counts, law, false_alarm=1e-6).passed == passed


def test_slots_are_the_best_of_all_candidates():
    """Token by token: the likeliest, a drawn one of the rest, and the likeliest of the others."""
    rule, (instance,) = MixedBeam(4, 1, 0.05), random_instances(5, 1, 1, seed=2)
    tree = sample_trees(rule, instance.draft)
    validate_tree(tree, 5)
    law, order = instance.draft[0][0], np.argsort(-instance.draft[0][0]).tolist()
    tokens, valid, laws = (np.asarray(x) for x in (tree.tokens, tree.valid, tree.child_laws))
    for row in range(200):
        children = tokens[row, 1:][valid[row, 1:]].tolist()
        assert children[0] == order[0]
        others = [x for x in order if x not in children[:2] and law[x] > rule.threshold]
        assert children[2:] == others[: rule.width - 2]
        drawn = SiblingLaw.WITHOUT_REPLACEMENT.code
        assert (np.flatnonzero(laws[row, 1:][valid[row, 1:]] == drawn) == [1]).all()
    seen = {tuple(t) for t in tokens[:200, 2:3].tolist()}
    assert len(seen) > 2  # The second child is drawn.


def test_at_zero_temperature_the_tree_is_that_of_the_beam():
    (instance,) = random_instances(5, 3, 1, seed=2)
    rules = MixedBeam(3, 3, 0.01), Beam(3, 3, 0.01)
    trees = [grown(rule, instance.draft, 0.0) for rule in rules]
    for field in ("tokens", "parents", "valid", "scores"):
        assert (getattr(trees[0], field) == getattr(trees[1], field)).all()


def test_words_and_verifiers():
    for words in ("4x3", "4x3@0.05", "3x2+3"):
        assert method_of_tree("mixed_beam", words).tree == words
        assert method_of_tree("self_mixed_beam", words).tree == words
    assert TREE_RULES["mixed_beam"](4, 3, 0.1).pass_widths == (2, 3, 5, 9, 13)
    assert "k_seq" not in lossless_verifiers(method_of_tree("mixed_beam", "2x2"))
