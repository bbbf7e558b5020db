"""Plans of static trees, against all trees, and against runs whose acceptance is known."""

import collections
import itertools

import numpy as np
import pytest

import rsd_jax
from rsd_jax.core.tree import TreeShape
from rsd_jax.engine.job import prepare
from rsd_jax.engine.methods import lossless_verifiers
from rsd_jax.engine.request import Request
from rsd_jax.errors import ConfigError
from rsd_jax.evaluation import passes
from rsd_jax.evaluation.expected import expected_run
from rsd_jax.planning import BlockCosts, measure_costs, plan_tree, rank_acceptance
from rsd_jax.planning.acceptance import wide_tree
from rsd_jax.planning.programme import BestTrees, tokens_of
from tests import tiny

_RNG = np.random.default_rng(0)


def _rates(depth, ranks):
    """Acceptances that do not descend with the rank, unlike the usual ones; one of them is 0."""
    rates = _RNG.dirichlet(np.ones(ranks + 1), depth)[:, :ranks]
    rates[0, 0] = 0.0
    return rates


def _every_tree(nodes):
    """The shapes of all trees with a number of nodes, several times each."""
    for parents in itertools.product(*(range(place) for place in range(1, nodes))):
        yield TreeShape.from_parents((-1, *parents))


@pytest.mark.parametrize(("depth", "ranks"), [(1, 2), (2, 3), (3, 2), (5, 3)])
def test_the_best_tree_of_each_size_is_the_best_of_all(depth, ranks):
    rates = _rates(depth, ranks)
    best = BestTrees(rates, 7)
    assert best.tokens(1) == 1.0
    for nodes in range(2, 8):
        fitting = [
            tokens_of(shape, rates)
            for shape in _every_tree(nodes)
            if shape.depth <= depth and shape.max_siblings <= ranks
        ]
        if not fitting:
            assert best.tokens(nodes) == -np.inf
            continue
        np.testing.assert_allclose(best.tokens(nodes), max(fitting), rtol=1e-12)
        shape = TreeShape.from_parents(best.parents(nodes))
        assert (shape.num_nodes, shape.depth <= depth) == (nodes, True)
        np.testing.assert_allclose(tokens_of(shape, rates), best.tokens(nodes), rtol=1e-12)


def test_expected_tokens_of_a_chain_and_of_siblings():
    rates = np.asarray([[0.5, 0.25], [0.4, 0.1]])
    chain = TreeShape.from_branching((1, 1))
    np.testing.assert_allclose(tokens_of(chain, rates), 1 + 0.5 + 0.5 * 0.4)
    siblings = TreeShape.from_parents((-1, 0, 0, 2))
    np.testing.assert_allclose(tokens_of(siblings, rates), 1 + 0.5 + 0.25 + 0.25 * 0.4)


_FLAT = BlockCosts(np.asarray([1, 64]), np.asarray([1.0, 1.0]), np.asarray([10.0, 10.0]))
_PER_NODE = BlockCosts(np.asarray([1, 64]), np.asarray([1.0, 1.0]), np.asarray([10.0, 640.0]))


def test_free_nodes_are_all_used_and_dear_ones_are_not():
    rates = np.asarray([0.6, 0.2, 0.1])
    assert len(plan_tree(rates, _FLAT, max_nodes=20).parents) == 21
    assert plan_tree(rates, _PER_NODE, max_nodes=20).tree == "1"


def test_the_plan_is_the_fastest_of_all_trees():
    costs = BlockCosts(
        np.asarray([1, 3, 6]), np.asarray([1.0, 1.2, 2.0]), np.asarray([5.0, 5.5, 9.0])
    )
    rates = np.asarray([0.55, 0.3, 0.1])
    plan = plan_tree(rates, costs, max_nodes=6, max_depth=4)
    table = np.tile(rates, (4, 1))
    speeds = [
        tokens_of(shape, table) / costs.block_seconds(shape)
        for nodes in range(2, 8)
        for shape in _every_tree(nodes)
        if shape.depth <= 4 and shape.max_siblings <= 3
    ]
    np.testing.assert_allclose(plan.tokens_per_second, max(speeds), rtol=1e-12)
    shape = TreeShape.from_parents(plan.parents)
    np.testing.assert_allclose(plan.seconds, costs.block_seconds(shape))
    np.testing.assert_allclose(plan.tokens, tokens_of(shape, table))


def test_seconds_between_and_beyond_the_measured_sizes():
    """Noise that makes a larger pass look faster does not count."""
    costs = BlockCosts(
        np.asarray([1, 3, 5]), np.asarray([1.0, 3.0, 2.0]), np.asarray([10.0, 20.0, 40.0])
    )
    np.testing.assert_array_equal(costs.draft, [1.0, 3.0, 3.0])
    # The root's pass takes two tokens: 2 + 3 of the draft, and the target's over 10 nodes.
    shape = TreeShape.from_parents((-1, 0, 0, 0, 0, 1, 1, 2, 2, 3))
    np.testing.assert_allclose(costs.block_seconds(shape), 2.0 + 3.0 + 80.0)
    np.testing.assert_allclose(costs.block_seconds(TreeShape.from_branching((1,))), 2.0 + 15.0)


def test_a_threshold_keeps_the_nodes_that_raise_the_rate():
    # The target's pass takes 10 s and 2 s more for each node, a draft pass 1 s.
    costs = BlockCosts(np.asarray([1, 64]), np.asarray([1.0, 1.0]), np.asarray([10.0, 136.0]))
    assert costs.threshold(width=1, length=6) == pytest.approx((1.0 + 2.0) / 10.0)
    assert costs.threshold(width=4, length=6) == pytest.approx((0.25 + 2.0) / 10.0)
    accepted = np.asarray([0.9, 0.7, 0.5, 0.39, 0.35, 0.1])  # the paths of a chain
    rates = [(1.0 + accepted[:k].sum()) / (10.0 + 3.0 * k) for k in range(7)]
    bound = costs.threshold(width=1, length=6, tokens_per_second=max(rates))
    assert (accepted > bound).sum() == np.argmax(rates)
    with pytest.raises(ConfigError, match="tokens_per_second=0 must be positive"):
        costs.threshold(width=1, length=6, tokens_per_second=0)


_PARENTS = (-1, 0, 0, 0, 1, 1, 3)  # "3-2.0.1": several widths, a leaf between nodes with children
_PROMPTS = tiny.PROMPTS * 32
_SAMPLED = {"max_new_tokens": 24, "temperature": 0.9, "seed": 5}


@pytest.fixture(scope="module")
def acceptance():
    return rank_acceptance(*tiny.pair(), _PROMPTS, parents=_PARENTS, **_SAMPLED)


def test_all_nodes_make_the_expected_tokens(acceptance):
    """A block produces one token and one for each accepted node."""
    method = rsd_jax.build_method("static", parents=_PARENTS)
    job = prepare(method, *tiny.pair(), Request.of(_PROMPTS, **_SAMPLED))
    run = expected_run(job, lossless_verifiers(method))
    assert set(acceptance) == set(run.sums) == {*lossless_verifiers(method)}
    blocks = run.result.stats.blocks.sum()
    for name, each in acceptance.items():
        assert each.accepted.shape == each.tested.shape == (2, 3)
        np.testing.assert_allclose(blocks + each.accepted.sum(), run.sums[name].sum(), rtol=1e-5)
        np.testing.assert_allclose(each.tested[0], blocks, rtol=1e-5)  # the root has 3 children
        first, _, third = each.accepted[0]
        np.testing.assert_allclose(each.tested[1], [first + third, first, 0.0], rtol=1e-5)
        np.testing.assert_allclose(each.rates_by_depth[1, 2], 0.0)
    assert acceptance["coupling"].accepted.sum() > acceptance["recursive_rejection"].accepted.sum()


def test_expected_acceptance_is_what_is_sampled(acceptance):
    """By rank, sampled minus expected is a sum of martingale differences.

    Its variance is at most the expected number, so 5 standard deviations are a false alarm in 1e-5
    runs; a rank that is lost is seen.
    """
    method = rsd_jax.build_method("static", parents=_PARENTS)
    stats = rsd_jax.generate(method, *tiny.pair(), _PROMPTS, **_SAMPLED).stats
    expected = acceptance["recursive_rejection"].accepted.sum(axis=0)
    difference = stats.accepted_ranks.sum(axis=0) - expected
    assert (np.abs(difference) < 5 * np.sqrt(expected)).all()
    assert np.abs(difference).max() > 0
    assert (expected > 5 * np.sqrt(expected)).all()


def test_of_one_model_the_first_child_is_always_accepted():
    target, _ = tiny.pair()
    found = rank_acceptance(target, target, tiny.PROMPTS, parents=_PARENTS, **_SAMPLED)
    np.testing.assert_allclose(found["recursive_rejection"].rates, [1.0, 0.0, 0.0], atol=1e-5)
    plan = plan_tree([1.0, 0.0], _FLAT, max_nodes=8, max_depth=6)
    assert plan.tree == "1-1-1-1-1-1"
    assert rsd_jax.build_method("static", parents=plan.parents).drafter.shape.depth == 6


def test_the_wide_tree():
    shape = TreeShape.from_parents(wide_tree())
    assert (shape.num_nodes, shape.depth, shape.max_siblings) == (64, 8, 8)


def test_costs_are_measured():
    target, draft = tiny.pair()
    costs = measure_costs(target, draft, context=5, max_nodes=4, repeats=1)
    assert costs.nodes.tolist() == [1, 2, 3, 5]
    assert (np.diff(costs.target) >= 0).all()
    assert (costs.draft > 0).all()


def test_costs_are_medians_of_each_model_s_own_passes(monkeypatch):
    """The first turn compiles and does not count; the others take 1, 2 and 6 times as long."""
    target, draft = tiny.pair()
    turns = collections.Counter()

    def seconds(loaded, cache, *, steps, nodes):
        assert cache.length.tolist() == [7, 7]
        each = (loaded is target, nodes)
        turns[each] += 1
        return (100, 1, 6, 2)[turns[each] - 1] * (nodes + 50 * (loaded is target))

    monkeypatch.setattr(passes, "pass_seconds", seconds)
    costs = measure_costs(target, draft, context=7, batch_size=2, max_nodes=3, repeats=3)
    assert costs.draft.tolist() == [2, 4, 6]
    assert costs.target.tolist() == [102, 104, 106]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plan_tree([0.6, 0.5], _FLAT), "whose sum is at most 1"),
        (lambda: plan_tree([-0.1], _FLAT), "must hold probabilities"),
        (lambda: plan_tree([np.nan], _FLAT), "must hold probabilities"),
        (lambda: plan_tree([], _FLAT), "must hold probabilities"),
        (lambda: plan_tree([0.5], _FLAT, max_nodes=0), "max_nodes=0"),
        (lambda: plan_tree([0.5], _FLAT, max_depth=1.5), "max_depth=1.5"),
        (lambda: BlockCosts([1, 1], [1.0, 1.0], [1.0, 1.0]), "ascending"),
        (lambda: BlockCosts([1, 2], [1.0], [1.0, 1.0]), "draft=.* one for each of nodes"),
        (lambda: BlockCosts([1], [1.0], [0.0]), "target=.* positive seconds"),
        (lambda: measure_costs(*tiny.pair(), repeats=0), "repeats=0"),
        (lambda: rank_acceptance(*tiny.pair(), [], **_SAMPLED), "prompts is empty"),
        (
            lambda: rank_acceptance(*tiny.pair(), [[1]], parents=[-1, 1], **_SAMPLED),
            r"parents\[1\]=1",
        ),
    ],
)
def test_bad_numbers_are_refused(call, message):
    with pytest.raises(rsd_jax.ConfigError, match=message):
        call()
