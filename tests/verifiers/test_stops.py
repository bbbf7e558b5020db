"""Verifiers that know the law of a block: reference values, orders, and numbers in float32."""

import functools
import itertools
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsd_jax.core.sampling import row_keys
from rsd_jax.core.tree import DenseLaws, DraftTree, SiblingLaw, TreeShape
from rsd_jax.core.warp import make_warp
from rsd_jax.drafters import TREE_RULES
from rsd_jax.drafters.growth import grow_tree
from rsd_jax.testing.decisions import decide_rows, make_problem, stop_rows
from rsd_jax.testing.drawn_trees import MixedSiblings, drawn_trees
from rsd_jax.testing.enumeration import laws_of_stops, outcome_laws, total_variations
from rsd_jax.testing.instances import KINDS, Instance, random_instances
from rsd_jax.testing.optimum.standings import tokens_per_block
from rsd_jax.verifiers import VERIFIERS
from rsd_jax.verifiers.base import TargetLaws
from tests import small_parts
from tests.mutants.faulty_verifiers import FaultyCoupling
from tests.parts.block_verification import BlockVerification

_FIXED = TREE_RULES["constant_branching"]
_BEAM = TREE_RULES["stochastic_beam"]
_CHAINS = TREE_RULES["independent_chains"]


def _iid(*branching: int) -> MixedSiblings:
    """All siblings i.i.d., at every level."""
    return MixedSiblings(branching, (SiblingLaw.IID,) * max(branching))


def _everywhere(p, q, depth: int) -> Instance:
    """The same two laws after every prefix."""

    def table(law, levels: int):
        return tuple(np.tile(np.asarray([law]), (len(law) ** d, 1)) for d in range(levels))

    return Instance(target=table(p, depth + 1), draft=table(q, depth))


def _expected(name: str, rule, instances) -> np.ndarray:
    """Expected tokens of a block, for each instance."""
    problem = make_problem([drawn_trees(rule, i.draft) for i in instances], instances)
    laws = laws_of_stops(VERIFIERS[name](), problem, instances)
    return np.asarray([tokens_per_block(law) for law in laws])


_REFERENCE = {
    (2,): {"coupling": "17/9", "recursive_rejection": "16/9"},
    (1, 1): {
        "coupling": "20/9",
        "block": "20/9",
        "traversal": "20/9",
        "recursive_rejection": "19/9",
    },
    (2, 2): {"coupling": "220/81", "traversal": "199/81", "recursive_rejection": "193/81"},
    (2, 1): {"coupling": "68/27", "traversal": "65/27", "recursive_rejection": "62/27"},
}


@pytest.mark.parametrize("branching", _REFERENCE, ids=str)
def test_reference_values(branching):
    """Target (1/3, 2/3) and draft (2/3, 1/3) after every prefix, i.i.d. children."""
    instance = _everywhere((1 / 3, 2 / 3), (2 / 3, 1 / 3), len(branching))
    for name, value in _REFERENCE[branching].items():
        (tokens,) = _expected(name, _iid(*branching), [instance])
        assert tokens == pytest.approx(float(Fraction(value)), abs=1e-12), name


def test_coupling_is_not_always_above_traversal():
    half = np.asarray([[0.5, 0.5]])
    instance = Instance(
        target=(np.asarray([[0.75, 0.25]]), np.eye(2), np.tile(half, (4, 1))),
        draft=(half, np.asarray([[0.0, 1.0], [0.5, 0.5]])),
    )
    for name, value in (("recursive_rejection", 33), ("coupling", 34), ("traversal", 35)):
        (tokens,) = _expected(name, _iid(3, 1), [instance])
        assert tokens == pytest.approx(value / 16, abs=1e-12), name


_ORDERED = (
    (_FIXED((2, 2)), 3),
    (_FIXED((2, 1)), 3),
    (_FIXED((3,)), 4),
    (_BEAM(3, 2), 3),
    (_BEAM(2, 2), 3),
    (_iid(2, 2), 3),
    (_iid(3, 1), 3),
)


@pytest.mark.parametrize(("rule", "vocab"), _ORDERED, ids=str)
def test_orders_in_expectation_over_trees(rule, vocab):
    """Given one tree coupling is below recursive rejection about as often as not."""
    instances = random_instances(vocab, rule.shape.depth, 2 * len(KINDS), seed=3)
    names = ("match", "recursive_rejection", "traversal", "coupling")
    match, rejection, traversal, coupling = (_expected(n, rule, instances) for n in names)
    for more, less in ((coupling, rejection), (coupling, match), (traversal, rejection)):
        assert (more >= less - 1e-12).all()
    assert (coupling > rejection + 1e-6).any()


def test_on_chains_coupling_traversal_and_block_are_one():
    """And the block verification of the tests, which is written another way."""
    rule = _FIXED((1, 1, 1))
    instances = random_instances(3, 3, 2 * len(KINDS), seed=4)
    problem = make_problem([drawn_trees(rule, i.draft) for i in instances], instances)
    masses = [stop_rows(VERIFIERS[n](), problem)[0] for n in ("coupling", "traversal", "block")]
    for mass in masses[1:]:
        np.testing.assert_allclose(mass, masses[0], atol=1e-12)
    rule, instances = _FIXED((1, 1)), random_instances(3, 2, len(KINDS), seed=4)
    ours = outcome_laws(VERIFIERS["block"](), rule, instances)
    other = outcome_laws(BlockVerification(), rule, instances)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


@pytest.mark.parametrize("name", ["match", "recursive_rejection", "k_seq", "traversal", "coupling"])
def test_another_sibling_never_costs_tokens(name):
    """A harness that scores the paths of a tree at wrong positions breaks this first."""
    instances = random_instances(3, 2, 2 * len(KINDS), seed=5)
    rules = (
        [_CHAINS(k, 2) for k in (1, 2, 3)]
        if name == "k_seq"
        else [_FIXED((k, 1)) for k in (1, 2, 3)]
    )
    tokens = [_expected(name, rule, instances) for rule in rules]
    for fewer, more in itertools.pairwise(tokens):
        assert (more >= fewer - 1e-12).all()


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        (name, rule)
        for name in ("recursive_rejection", "k_seq")
        for rule in (
            _FIXED((2, 2)),
            _BEAM(2, 2),
            _CHAINS(2, 2),
            MixedSiblings((2, 1), (SiblingLaw.POINT, SiblingLaw.WITHOUT_REPLACEMENT)),
        )
        if small_parts.fits(VERIFIERS[name](), rule)
    ],
    ids=str,
)
def test_decisions_follow_the_law_of_the_block(name, rule):
    """A verifier that decides node by node, against what it says about whole blocks."""
    verifier, instances = VERIFIERS[name](), random_instances(3, 2, len(KINDS), seed=6)
    problem = make_problem([drawn_trees(rule, i.draft) for i in instances], instances)
    decided = outcome_laws(verifier, rule, instances)
    said = laws_of_stops(verifier, problem, instances)
    for a, b in zip(jax.tree.leaves(decided), jax.tree.leaves(said), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


def test_a_beam_taken_parent_by_parent_is_biased():
    """Few random instances show it (12 of 70, .0014 at most), and those of width 2 never."""
    p = (0.417, 0.047, 0.536), (0.101, 0.529, 0.370), (0.085, 0.118, 0.797), (0.027, 0.972, 0.001)
    q = (0.047, 0.001, 0.952), (0.782, 0.143, 0.075), (0.045, 0.954, 0.001), (0.006, 0.007, 0.987)
    p, q = np.asarray(p), np.asarray(q)
    instance = Instance(target=(p[:1], p[1:], np.tile(p[:1], (9, 1))), draft=(q[:1], q[1:]))
    right, wrong = VERIFIERS["coupling"](), FaultyCoupling(fault="parent by parent")
    assert total_variations(right, _BEAM(3, 2), [instance]) < 1e-12
    assert total_variations(wrong, _BEAM(3, 2), [instance]) == pytest.approx(0.0256, abs=1e-4)


def test_a_second_coupling_agrees():
    """All sub-laws written out, as in the mutants, against numbers per node."""
    rule, instances = _BEAM(2, 2), random_instances(3, 2, 2 * len(KINDS), seed=7)
    problem = make_problem([drawn_trees(rule, i.draft) for i in instances], instances)
    (mass, law), (same_mass, same_law) = (
        stop_rows(verifier, problem) for verifier in (VERIFIERS["coupling"](), FaultyCoupling())
    )
    np.testing.assert_allclose(mass, same_mass, atol=1e-12)
    possible = mass > 1e-9
    np.testing.assert_allclose(law[possible], same_law[possible], atol=1e-6)


# Numbers in float32, at the sizes of real vocabularies.


def _large_block(rule, vocab: int, offset: float) -> tuple[DraftTree, np.ndarray]:
    """A tree of one row drawn at T = 0.3 from random laws; the target's logits f32[1, N, V]."""
    rng, shape = np.random.default_rng(0), rule.shape
    logits = rng.normal(size=(1, shape.num_nodes, vocab)).astype(np.float32)
    other = rng.normal(size=logits.shape).astype(np.float32)

    def score_level(level, tokens, visible, carry):
        return jnp.asarray(logits[:, shape.level(level)]), carry

    @jax.jit
    def grow(seed):
        keys = row_keys(seed, jnp.arange(1, dtype=jnp.int32))
        root = jnp.zeros((1,), jnp.int32)
        return grow_tree(rule, score_level, (), root, warp=make_warp(0.3), keys=keys)[0]

    return grow(0), (1.0 - offset) * logits + offset * other


@functools.partial(jax.jit, static_argnums=0)
def _whole_law(verifier, tree: DraftTree, logits: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The law of a block, f[N, V], and the mass of each node, f[N]."""
    row = jax.tree.map(lambda leaf: leaf[0], tree)
    stops = verifier.stops(row, TargetLaws(logits[0], make_warp(0.3)))
    nodes = jnp.arange(tree.shape.num_nodes, dtype=jnp.int32)
    law = stops.mass[:, None] * jax.vmap(stops.law)(nodes)
    return jnp.where(stops.mass[:, None] > 0, law, 0), stops.mass


@pytest.mark.parametrize("offset", [0.3, 0.0], ids=["random pair", "self pair"])
@pytest.mark.parametrize(
    ("name", "vocab", "beam"),
    [
        ("coupling", 49152, (4, 3)),
        ("coupling", 2048, (4, 3)),
        ("coupling", 2048, (8, 6)),
        ("traversal", 2048, (4, 3)),
        ("match", 2048, (4, 3)),
    ],
    ids=str,
)
def test_float32_at_real_vocabularies(name, vocab, beam, offset):
    tree, logits = _large_block(_BEAM(*beam), vocab, offset)
    verifier = VERIFIERS[name]()
    single, mass = (np.asarray(x, np.float64) for x in _whole_law(verifier, tree, logits))
    with jax.enable_x64(True):
        wide = DenseLaws(jnp.asarray(np.asarray(tree.laws.logprobs, np.float64)))
        double = _whole_law(verifier, tree.replace(laws=wide), logits.astype(np.float64))[0]
    assert np.isfinite(single).all()
    assert (mass >= 0).all()
    assert abs(mass.sum() - 1) < 1e-5
    assert 0.5 * np.abs(single - np.asarray(double)).sum() < 1e-4


def test_a_node_without_mass_is_never_drawn():
    """Whatever the noise: here nothing but the root can be reached."""
    p, q = np.eye(1, 3), np.asarray([[0.0, 0.5, 0.5]])
    instance = Instance(target=(p, np.tile(p, (3, 1))), draft=(q,))
    problem = make_problem([drawn_trees(_FIXED((2,)), instance.draft)], [instance])
    noise = np.random.default_rng(0).gumbel(size=(64, 3))
    noise[:, 1:] += 1e6
    for name in ("coupling", "traversal", "match"):
        decisions = decide_rows(VERIFIERS[name](), problem, np.zeros(64, int), noise)
        assert not decisions.num_accepted.any()


def _one_tree(logits_q, tokens, logits_p) -> tuple[DraftTree, TargetLaws]:
    """Children of a root, drawn without replacement; logits of root and children f32[1 + K, V]."""
    shape = TreeShape.from_branching((len(tokens),))
    tree = DraftTree(
        tokens=jnp.asarray([0, *tokens], jnp.int32),
        parents=jnp.asarray(shape.static_parents),
        valid=jnp.ones(shape.num_nodes, bool),
        scores=jnp.zeros(shape.num_nodes, jnp.float32),
        laws=DenseLaws(jax.nn.log_softmax(jnp.asarray([logits_q], jnp.float32))),
        finite=jnp.asarray(True),
        shape=shape,
        siblings=SiblingLaw.WITHOUT_REPLACEMENT,
    )
    return tree, TargetLaws(jnp.asarray(logits_p, jnp.float32), make_warp(1.0))


@pytest.mark.parametrize("gap", [90.0, 2000.0])
@pytest.mark.parametrize("name", ["coupling", "traversal", "recursive_rejection"])
def test_a_child_drawn_from_next_to_nothing_has_a_law(name, gap):
    """The first child has all but e^-gap of the mass; two tokens or one are left for the second."""
    for rest, share in ((0.5, 1 / (1 + np.exp(0.5))), (-np.inf, 1.0)):
        tree, target = _one_tree([0.0, -gap, -gap + rest], [0, 1], np.zeros((3, 3)))
        stops = jax.jit(lambda tree, target: VERIFIERS[name]().stops(tree, target).mass)
        mass = np.asarray(stops(tree, target), np.float64)
        # p is 1/3 each, so the first child leaves R = (0, 1/3, 1/3), or (0, 1/2, 1/2) normalised;
        # the second is drawn from (0, share, 1 - share).
        second = 1 / 3 / share if name == "coupling" else 2 / 3 * min(1.0, 1 / 2 / share)
        assert mass[2] == pytest.approx(second, abs=1e-6)
        assert mass.sum() == pytest.approx(1.0, abs=1e-6)


def test_the_draft_law_of_a_leaf_leaves_no_trace():
    """Such a law is whatever the drafter's loop left there."""
    tree, target = _one_tree([0.0, 0.0, 0.0], [0], np.zeros((2, 3)))
    chain = TreeShape.from_branching((1, 1))
    tree = tree.replace(
        tokens=jnp.asarray([0, 1, 0], jnp.int32),
        parents=jnp.asarray(chain.static_parents),
        valid=jnp.asarray([True, True, False]),
        laws=DenseLaws(jnp.concatenate([tree.laws.logprobs, jnp.full((1, 3), jnp.nan)])),
        shape=chain,
    )
    target = TargetLaws(jnp.zeros((3, 3), jnp.float32), target.warp)
    stops = VERIFIERS["coupling"]().stops(tree, target)
    np.testing.assert_allclose(stops.mass, [0.0, 1.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(stops.law(jnp.asarray(1)), 1 / 3, atol=1e-6)
