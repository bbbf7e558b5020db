"""The optimum: against all sets of tokens, against values, and with every verifier below it."""

import math
import sys

import numpy as np
import pytest

from rsd_jax.core.tree import SiblingLaw
from rsd_jax.drafters import TREE_RULES
from rsd_jax.drafters.tree_law import independent_samples, ordered_samples, prefix_row
from rsd_jax.errors import ConfigError
from rsd_jax.testing import (
    Instance,
    Standings,
    drawn_trees,
    hold_against_optimum,
    one_node_optimum_iid,
    one_node_optimum_without_replacement,
    outcome_laws,
    random_instances,
    tokens_per_block,
    whole_tree_optimum,
)
from rsd_jax.testing.candidate_trees import CandidateTrees
from rsd_jax.testing.drawn_trees import MixedSiblings, PredictableBranching
from rsd_jax.verifiers import VERIFIERS, KSeq, RecursiveRejection
from tests import parts, small_parts
from tests.mutants.law_mutants import most_likely

ATOL = 1e-7

_FIXED = TREE_RULES["constant_branching"]
_CHAINS = TREE_RULES["independent_chains"]
_BEAM = TREE_RULES["stochastic_beam"]

_WAYS = (
    pytest.param(one_node_optimum_iid, independent_samples, id="iid"),
    pytest.param(one_node_optimum_without_replacement, ordered_samples, id="without_replacement"),
)


def _best_of_all_sets(p: np.ndarray, q: np.ndarray, k: int, samples) -> float:
    """1 + min over all sets H of p(H) - Pr[drawn set in H], the law of the drawn set enumerated."""
    sets = np.arange(2 ** len(p))
    drawn = np.zeros(len(sets))
    for probability, tokens in samples(q, k):
        drawn[sum(1 << x for x in set(tokens))] += probability
    mass = ((sets[:, None] >> np.arange(len(p))) & 1) @ p
    inside = (sets[:, None] & ~sets) == 0  # [drawn, H]
    return float(1.0 + (mass - drawn @ inside).min())


def _one_node(vocab: int, count: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    instances = random_instances(vocab, 1, count, seed=seed)
    return [(i.target[0][0], i.draft[0][0]) for i in instances]


def _everywhere(p, q, depth: int = 1) -> Instance:
    """The same target and the same draft at every prefix."""
    vocab = len(p)
    target = tuple(np.tile(p, (vocab**d, 1)) for d in range(depth + 1))
    return Instance(target=target, draft=tuple(np.tile(q, (vocab**d, 1)) for d in range(depth)))


def _goes_on(outcomes) -> float:
    """Pr[the block accepts a token]."""
    return 1.0 - float(outcomes[0].sum())


def _optimum(rule, instance: Instance) -> float:
    return whole_tree_optimum(drawn_trees(rule, instance.draft), instance)


@pytest.mark.parametrize(("optimum", "samples"), _WAYS)
def test_no_set_of_tokens_is_better_than_the_prefixes(optimum, samples):
    """200 instances, a third with zeros; then laws with ties, also where k exceeds the support."""
    pairs = [pair for vocab in range(2, 7) for pair in _one_node(vocab, 40, seed=vocab)]
    assert len(pairs) == 200
    assert np.mean([(p == 0).any() or (q == 0).any() for p, q in pairs]) > 0.3
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 4, (100, 2, 4)) + np.eye(4, dtype=int)[rng.integers(0, 4, (100, 2))]
    pairs += [tuple(c / c.sum(-1, keepdims=True)) for c in counts]
    for number, (p, q) in enumerate(pairs):
        k = 1 + number % 4 if len(p) < 6 else 1 + number % 3
        assert optimum(p, q, k) == pytest.approx(_best_of_all_sets(p, q, k, samples), abs=1e-12)


@pytest.mark.parametrize(("optimum", "samples"), _WAYS)
def test_one_draft_is_accepted_with_the_overlap(optimum, samples):
    for p, q in _one_node(5, 21, seed=1):
        assert optimum(p, q, 1) == pytest.approx(np.minimum(p, q).sum(), abs=1e-12)


def test_very_small_probabilities_of_the_draft():
    """Two drafts without replacement are token 0 and, evenly, one of two very unlikely tokens."""
    p = np.asarray([0.1, 0.1, 0.8])
    for tail in (1e-9, 1e-30, 1e-300):
        q = np.asarray([1.0 - 2.0 * tail, tail, tail])
        # The best set is {0, 1}, with p(H) = .2 and Pr[S lies in H] = 1/2.
        assert one_node_optimum_without_replacement(p, q, 2) == pytest.approx(0.7, abs=1e-8)
        assert one_node_optimum_iid(p, q, 2) == pytest.approx(0.1, abs=1e-8)


def test_large_vocabularies():
    """On uniform drafts Pr[S lies in H] depends on the size of H only: both optima are known."""
    low, high = 0.05, 1.95  # p / q on either half

    def best(vocab: int, inside) -> float:
        h = np.arange(vocab + 1) / vocab
        # p(H) bends upwards in the middle.
        return 1.0 + (np.maximum(low * h, high * h - (high - low) / 2) - inside(h)).min()

    def pair(vocab: int) -> tuple[np.ndarray, np.ndarray]:
        p = np.where(np.arange(vocab) < vocab // 2, low, high) / vocab
        return p, np.full(vocab, 1.0 / vocab)

    for k in (2, 4):
        exact = best(50_000, lambda h, k=k: h**k)
        assert exact < 0.99
        assert one_node_optimum_iid(*pair(50_000), k) == pytest.approx(exact, abs=1e-11)
    exact = best(1000, lambda h: h * (1000 * h - 1) / 999)  # both of two in the first h
    without = one_node_optimum_without_replacement(*pair(1000), 2)
    assert without == pytest.approx(exact, abs=1e-12)
    assert without > one_node_optimum_iid(*pair(1000), 2)


def test_reference_values():
    """Two i.i.d. drafts; the last of the three tokens is never drawn."""
    rule = _CHAINS(2, 2)
    instance = _everywhere([1 / 3, 2 / 3, 0.0], [2 / 3, 1 / 3, 0.0], depth=2)
    (rejection,) = outcome_laws(RecursiveRejection(), rule, [instance])
    assert 1.0 + _goes_on(rejection) == pytest.approx(16 / 9, abs=1e-12)
    assert _optimum(_CHAINS(2, 1), instance) == pytest.approx(17 / 9, abs=1e-9)
    standings = hold_against_optimum({"k_seq": KSeq()}, rule, instance)
    print(standings)
    assert standings.recursive_rejection == tokens_per_block(rejection)
    assert standings.optimum == _optimum(rule, instance)
    assert 0.0 < standings.shares["k_seq"] < 1.0

    # The published example: recursive rejection without replacement accepts with probability 1.
    instance = _everywhere([0.2, 0.8, 0.0], [0.9, 0.1, 0.0], depth=2)
    p, q = instance.target[0][0], instance.draft[0][0]
    (k_seq,) = outcome_laws(KSeq(), rule, [instance])
    assert _goes_on(k_seq) == pytest.approx(0.3788, abs=5e-5)
    assert one_node_optimum_iid(p, q, 2) == pytest.approx(0.39, abs=1e-12)
    assert one_node_optimum_without_replacement(p, q, 2) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_a_tree_of_depth_one_is_one_node(k):
    for instance in random_instances(4, 1, 14, seed=k):
        p, q = instance.target[0][0], instance.draft[0][0]
        iid, without = _optimum(_CHAINS(k, 1), instance), _optimum(_FIXED((k,)), instance)
        assert iid == pytest.approx(1.0 + one_node_optimum_iid(p, q, k), abs=ATOL)
        exact = 1.0 + one_node_optimum_without_replacement(p, q, k)
        assert without == pytest.approx(exact, abs=ATOL)


def test_block_verification_is_the_optimum_of_a_chain():
    instances, rule = random_instances(3, 3, 21), _FIXED((1, 1, 1))
    block = outcome_laws(parts.VERIFIERS["block_verification"](), rule, instances)
    optimum = [_optimum(rule, instance) for instance in instances]
    np.testing.assert_allclose([tokens_per_block(law) for law in block], optimum, atol=ATOL)


_CANDIDATES = CandidateTrees(2, 0.3, (0.7, 0.4), (1, 2, 3), (1, 2, 3))
_MIXED = MixedSiblings((2, 2), (SiblingLaw.POINT, SiblingLaw.WITHOUT_REPLACEMENT))


def _weights(rule, instance: Instance) -> list[tuple[float, float]]:
    """(p(u), Pr[u is drawn]) of every prefix u but the root's, tree by tree and node by node."""
    trees, chance, drawn = drawn_trees(rule, instance.draft), {}, {}
    for tokens, parents, valid, probability in zip(
        trees.tokens, trees.parents, trees.valid, trees.probability, strict=True
    ):
        prefixes = {0: ()}
        for node in np.flatnonzero(valid)[1:].tolist():
            above = prefixes[int(parents[node])]
            prefixes[node] = prefix = (*above, int(tokens[node]))
            p = instance.target[len(above)][prefix_row(above, instance.vocab_size), prefix[-1]]
            chance[prefix] = chance.get(above, 1.0) * p
        for prefix in set(prefixes.values()) - {()}:
            drawn[prefix] = drawn.get(prefix, 0.0) + probability
    return [(chance[prefix], drawn[prefix]) for prefix in chance]


@pytest.mark.parametrize("rule", [_BEAM(2, 2), _CANDIDATES, _MIXED, _FIXED((2, 2))], ids=str)
def test_the_optimum_lies_between_bounds(rule):
    """Of trees of every kind, with parents that depend on the draw.

    To draw from p and follow the tree accepts u with probability p(u) Pr[u is drawn]; no verifier
    does more often than with either.
    """
    for instance in random_instances(3, 2, 21, seed=4):
        weights = _weights(rule, instance)
        optimum = _optimum(rule, instance)
        assert 1.0 + sum(p * drawn for p, drawn in weights) <= optimum + 1e-9
        assert optimum <= 1.0 + sum(min(p, drawn) for p, drawn in weights) + 1e-9


def test_a_tree_that_is_always_the_same_is_followed():
    """Where all tokens are certain to be drawn, the optimum is to draw from p and follow."""
    for instance in random_instances(3, 2, 7, seed=5):
        certain = Instance(target=instance.target, draft=most_likely(instance.draft))
        for rule in (_FIXED((1, 1)), _FIXED((2, 2)), _BEAM(2, 2)):
            weights = _weights(rule, certain)
            assert all(drawn == pytest.approx(1.0) for _, drawn in weights)
            follow = 1.0 + sum(p for p, _ in weights)
            assert _optimum(rule, certain) == pytest.approx(follow, abs=1e-9)


# Programs that the tests of verifiers compile too, and the optimum of the root's children.
_RULES = (
    (_CHAINS(2, 2), one_node_optimum_iid),
    (_FIXED((2, 2)), one_node_optimum_without_replacement),
)


def _pairs():
    for name, make in {**VERIFIERS, **parts.VERIFIERS}.items():
        for rule, one_node in _RULES:
            if small_parts.fits(make(), rule):
                yield pytest.param(make(), rule, one_node, id=f"{name}-{rule}")


@pytest.mark.parametrize(("verifier", "rule", "one_node"), list(_pairs()))
def test_no_verifier_is_above_the_optimum(verifier, rule, one_node):
    """Neither in the whole tree nor, with whatever it accepts below, in its first level."""
    instances = random_instances(3, 2, 21, seed=3)
    laws = outcome_laws(verifier, rule, instances)
    tokens = [tokens_per_block(law) for law in laws]
    optimum = [_optimum(rule, instance) for instance in instances]
    distance = np.subtract(optimum, tokens)
    print(f"{np.mean(tokens):.3f} of {np.mean(optimum):.3f}, least distance {distance.min():.1e}")
    assert (distance >= -1e-9).all()
    assert distance.max() > 1e-3
    roots = [one_node(i.target[0][0], i.draft[0][0], 2) for i in instances]
    assert (np.subtract(roots, [_goes_on(law) for law in laws]) >= -1e-9).all()


def test_standings():
    standing = Standings(2.0, 2.5, {"mine": 2.25, "a mutant": 2.75})
    assert standing.shares == {"mine": 0.5, "a mutant": 1.5}
    assert str(standing).splitlines() == [
        "                     tokens  share",
        "recursive rejection   2.000",
        "mine                  2.250  0.500",
        "a mutant              2.750  1.500",
        "optimum               2.500",
    ]
    assert math.isnan(Standings(2.0, 2.0, {"mine": 2.0}).shares["mine"])


def test_the_optimum_without_a_tree_is_one_token():
    instance = _everywhere([0.5, 0.5], [0.5, 0.5])
    rule = PredictableBranching((), lambda law, first: 1)
    assert _optimum(rule, instance) == 1.0


def test_bad_input_is_named():
    law = np.full(3, 1 / 3)
    for optimum in (one_node_optimum_iid, one_node_optimum_without_replacement):
        for p, q, k, message in (
            (law, law, 0, "k=0"),
            (law, law[:2] * 1.5, 2, "the same tokens"),
            (law * 0.9, law, 2, "p must be one law"),
            (law, np.asarray([1.5, -0.5, 0.0]), 2, "q must be one law"),
            (law, law * np.nan, 2, "q must be one law"),
            (law[None], law[None], 2, "p must be one law"),
        ):
            with pytest.raises(ConfigError, match=message):
                optimum(p, q, k)
    trees = drawn_trees(_FIXED((1, 1)), _everywhere([0.5, 0.5], [0.5, 0.5], depth=2).draft)
    with pytest.raises(ConfigError, match="trees of depth 2"):
        whole_tree_optimum(trees, _everywhere([0.5, 0.5], [0.5, 0.5]))


def test_without_scipy_the_error_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(ConfigError, match="needs the package scipy"):
        _optimum(_FIXED((1,)), _everywhere([0.5, 0.5], [0.5, 0.5]))
