"""The exact output law of verifiers, by enumeration; and every known fault of it, detected.

The errors of correct verifiers are below 1e-12; the bound is 1e-6. Sampled checks state their
false-alarm rate and power.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsd_jax.core.sampling import block_keys, exclude, row_keys
from rsd_jax.core.tree import DenseLaws, DraftTree, SiblingLaw, TreeShape
from rsd_jax.core.types import NO_NODE
from rsd_jax.core.warp import make_warp
from rsd_jax.drafters import TREE_RULES
from rsd_jax.testing.candidate_trees import CandidateTrees
from rsd_jax.testing.decisions import decide_rows, make_problem
from rsd_jax.testing.drawn_trees import (
    MixedSiblings,
    PaddedSiblings,
    PredictableBranching,
    drawn_trees,
)
from rsd_jax.testing.enumeration import (
    assert_lossless,
    assert_strict,
    outcome_laws,
    output_law,
    total_variations,
)
from rsd_jax.testing.instances import KINDS, Instance, random_instances, sequence_law
from rsd_jax.testing.monte_carlo import ROWS, assert_sampled_law, flat, sample_outcomes
from rsd_jax.testing.statistics import power
from rsd_jax.verifiers import VERIFIERS, NodeVerifier, Reads
from rsd_jax.verifiers.base import Decision, TargetLaws, Verifier
from rsd_jax.verifiers.k_seq import KSeq, division_factor
from rsd_jax.verifiers.recursive_rejection import RecursiveRejection
from tests import parts, small_parts
from tests.mutants.faulty_verifiers import FaultyRejection
from tests.mutants.law_mutants import LAW_MUTANTS, LawMutant, most_likely, mutant_instances

ATOL = 1e-6
FALSE_ALARM = 1e-6  # of each sampled check

_FIXED = TREE_RULES["constant_branching"]
_BEAM = TREE_RULES["stochastic_beam"]
_CHAINS = TREE_RULES["independent_chains"]

_POINT, _SAMPLED = SiblingLaw.POINT, SiblingLaw.WITHOUT_REPLACEMENT
_CANDIDATES = CandidateTrees(2, 0.3, (0.7, 0.4), (1, 2, 3), (1, 2, 3))
_MIXED = MixedSiblings((2, 2), (_POINT, _SAMPLED))

# (rule, V, instances of each kind); every verifier is held against the rules it accepts.
RULES = (
    *((rule, 3, 3) for rule in small_parts.largest_of_each_rule()),
    (_FIXED((1, 1)), 3, 3),
    (PaddedSiblings(_FIXED((2,)), 3), 4, 3),
    (_FIXED((3,)), 4, 3),
    (_FIXED((3, 1)), 4, 1),
    (_BEAM(3, 2), 3, 1),
    (PaddedSiblings(_CHAINS(2, 1), 3), 4, 3),
    (_CHAINS(3, 1), 4, 3),
    (_CHAINS(3, 2), 3, 1),
    (_CANDIDATES, 3, 3),
    (CandidateTrees(1, 0.3, (0.7, 0.4), (2, 3, 4), (2, 3, 4)), 4, 1),
    (_MIXED, 3, 3),
    (MixedSiblings((3,), (_POINT, _SAMPLED, _SAMPLED)), 4, 1),
    (MixedSiblings((3,), (_SAMPLED, _POINT, _SAMPLED)), 4, 1),
    (MixedSiblings((3,), (SiblingLaw.IID, _SAMPLED, SiblingLaw.IID)), 4, 1),
    (MixedSiblings((3,), (_SAMPLED, SiblingLaw.IID, _POINT)), 4, 1),
)
_VERIFIERS = {name: make() for name, make in VERIFIERS.items()}


def _pairs():
    for name, verifier in _VERIFIERS.items():
        for rule, vocab, each in RULES:
            if small_parts.fits(verifier, rule):
                label = f"{name}-{str(rule).replace('branching=', '')}"
                yield pytest.param(verifier, rule, vocab, each * len(KINDS), id=label)


@pytest.mark.parametrize(("verifier", "rule", "vocab", "count"), list(_pairs()))
def test_output_law_is_the_targets(verifier, rule, vocab, count):
    instances = random_instances(vocab, rule.shape.depth, count)
    assert assert_lossless(verifier, rule, instances, atol=ATOL) < 1e-12


_BOTH_WAYS = (
    *((rule, 3) for rule in small_parts.largest_of_each_rule()),
    (PaddedSiblings(_FIXED((2,)), 3), 4),
    (_CANDIDATES, 3),
    (PaddedSiblings(_CHAINS(2, 1), 3), 4),
    (_MIXED, 3),
)


@pytest.mark.parametrize(
    ("verifier", "rule", "vocab"),
    [
        (verifier, *case)
        for verifier in _VERIFIERS.values()
        for case in _BOTH_WAYS
        if isinstance(verifier, NodeVerifier) and small_parts.fits(verifier, case[0])
    ],
    ids=str,
)
def test_all_nodes_at_once_decide_like_those_reached(verifier, rule, vocab):
    """On every tree that can be drawn, for random uniforms, and in the output law."""
    instances = random_instances(vocab, rule.shape.depth, len(KINDS), seed=2)
    problem = make_problem([drawn_trees(rule, i.draft) for i in instances], instances)
    which = np.repeat(np.arange(len(problem.tokens)), 4)
    coins = np.random.default_rng(0).random((len(which), problem.shape.num_nodes))
    reached, every = (dataclasses.replace(verifier, all_nodes=way) for way in (False, True))
    ours, other = (decide_rows(way, problem, which, coins) for way in (reached, every))
    assert len(np.unique(ours.num_accepted)) == rule.shape.depth + 1
    np.testing.assert_array_equal(ours.num_accepted, other.num_accepted)
    np.testing.assert_array_equal(ours.path, other.path)
    np.testing.assert_allclose(ours.law, other.law, atol=1e-12)
    assert assert_lossless(every, rule, instances, atol=ATOL) < 1e-12


def test_instances_cover_what_they_promise():
    """Zeros in both laws, disjoint supports, and supports smaller than K (invalid children)."""
    assert 3 * len(KINDS) >= 20
    instances = random_instances(4, 1, 3 * len(KINDS))
    p = np.concatenate([i.target[0] for i in instances])
    q = np.concatenate([i.draft[0] for i in instances])
    assert (p == 0).any(axis=1).mean() > 0.2
    assert (q == 0).any(axis=1).mean() > 0.2
    assert (np.minimum(p, q).sum(1) == 0).any()
    assert (p == q).all(axis=1).any()
    assert ((q > 0).sum(1) < 3).any()
    small = [drawn_trees(_FIXED((3,)), i.draft).valid for i in instances]
    assert any(not valid.all() for valid in small)


def test_predictable_drafting_is_lossless():
    """The number of siblings may depend on the law and on the first draw (SWIFT's rule)."""
    rule = PredictableBranching((2, 2), lambda law, first: 1 if law[first] > 0.5 else 2)
    instances = random_instances(3, 2, len(KINDS))
    assert assert_lossless(RecursiveRejection(), rule, instances) < 1e-12


def test_point_masses_are_lossless():
    """A draft without probabilities, such as an n-gram table."""
    instances = [
        Instance(target=i.target, draft=most_likely(i.draft))
        for i in random_instances(3, 2, 2 * len(KINDS))
    ]
    assert assert_lossless(RecursiveRejection(), _FIXED((2, 2)), instances) < 1e-12


def test_no_draft_samples_the_target():
    rule = PredictableBranching((), lambda law, first: 1)
    for verifier in _VERIFIERS.values():
        (instance,) = random_instances(3, 1, 1)
        law = output_law(verifier, rule, instance)
        np.testing.assert_allclose(law, sequence_law(instance.target), atol=1e-12)


def test_a_second_implementation_agrees():
    """The unrolled recursive rejection of the mutants, without a fault."""
    instances = random_instances(3, 2, len(KINDS))
    rule = _BEAM(2, 2)
    ours = outcome_laws(RecursiveRejection(), rule, instances)
    other = outcome_laws(FaultyRejection(), rule, instances)
    for a, b in zip(ours, other, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_allclose(x, y, atol=1e-12)


@functools.cache
def _check_right(verifier: Verifier, rule, vocab: int) -> None:
    instances = random_instances(vocab, rule.shape.depth, len(KINDS), seed=8)
    assert assert_lossless(verifier, rule, instances, atol=ATOL) < 1e-12


def _of_check(name: str) -> list[LawMutant]:
    return [mutant for mutant in LAW_MUTANTS if mutant.check == name]


def test_every_mutant_names_a_check_of_this_file():
    checks = {"assert_lossless", "assert_strict", "assert_sampled_law"}
    assert {mutant.check for mutant in LAW_MUTANTS} == checks
    assert len({mutant.name for mutant in LAW_MUTANTS}) == len(LAW_MUTANTS)


@pytest.mark.parametrize("mutant", _of_check("assert_lossless"), ids=lambda m: m.name)
def test_mutant_is_caught(mutant):
    instances = mutant_instances(mutant)
    assert len(instances) >= 20
    medians = []
    for rule in mutant.rules:
        _check_right(mutant.right, rule, mutant.vocab_size)
        tv = total_variations(mutant.verifier, rule, instances, **mutant.options)
        medians.append(float(np.median(tv)))
        print(
            f"{mutant.name}: median TV {medians[-1]:.4f}, max {tv.max():.4f}, "
            f"{(tv > ATOL).sum()} of {len(tv)} instances"
        )
    worst = instances[int(tv.argmax())]  # under the last rule, K = 3
    with pytest.raises(AssertionError, match="not lossless"):
        assert_lossless(mutant.verifier, rule, [worst], atol=ATOL, **mutant.options)
    np.testing.assert_allclose(medians, mutant.median_tv, atol=5e-4)


def test_acceptance_is_strict():
    rules = (_FIXED((3,)), _CHAINS(3, 1), _FIXED((1,)))
    for verifier in _VERIFIERS.values():
        fitting = next(rule for rule in rules if small_parts.fits(verifier, rule))
        assert_strict(verifier, fitting, vocab_size=4)
    (mutant,) = _of_check("assert_strict")
    with pytest.raises(AssertionError, match="probability 0"):
        assert_strict(mutant.verifier, mutant.rules[-1], vocab_size=mutant.vocab_size)


def test_reference_value():
    """Draft (.9, .1), target (.2, .8), K = 2: the published acceptance."""
    p, q = np.asarray([[0.2, 0.8, 0.0, 0.0]]), np.asarray([[0.9, 0.1, 0.0, 0.0]])
    instance = Instance(target=(p, np.tile(p, (4, 1))), draft=(q,))
    rule = PaddedSiblings(_FIXED((2,)), 3)
    ((rejected, accepted),) = outcome_laws(RecursiveRejection(), rule, [instance])
    assert accepted.sum() == pytest.approx(1.0, abs=1e-12)
    rule = PaddedSiblings(_CHAINS(2, 1), 3)
    ((rejected, accepted),) = outcome_laws(KSeq(), rule, [instance])
    assert accepted.sum() == pytest.approx(0.3788, abs=5e-5)
    assert rejected.sum() == pytest.approx(1 - 0.3788, abs=5e-5)
    rho = division_factor(
        jnp.asarray(p[0], jnp.float32), jnp.asarray(q[0], jnp.float32), jnp.asarray(2.0)
    )
    assert float(rho) == pytest.approx((1.9 + 2.81**0.5) / 2, abs=1e-6)


# What is sampled is what was enumerated, through the real keys, draws and float32.

_SAMPLED = (
    (RecursiveRejection(), _FIXED((2, 2))),
    (RecursiveRejection(), _CANDIDATES),
    (KSeq(), _CHAINS(2, 2)),
    (VERIFIERS["block"](), _FIXED((1, 1))),
    (VERIFIERS["coupling"](), _BEAM(2, 2)),
    (VERIFIERS["match"](), _CHAINS(2, 2)),
    (VERIFIERS["traversal"](), _FIXED((2, 2))),
)


@pytest.mark.parametrize(("verifier", "rule"), _SAMPLED, ids=str)
def test_sampled_blocks_follow_the_enumerated_law(verifier, rule):
    """A total variation of .03 is caught with power .99."""
    instances = random_instances(3, 2, len(KINDS), seed=1)
    assert_sampled_law(verifier, rule, instances, right=verifier, false_alarm=FALSE_ALARM)
    outcomes = 3 + 9 + 27
    assert power(0.03, ROWS, outcomes - 1, false_alarm=FALSE_ALARM) > 0.99


def test_a_key_shared_by_draft_and_acceptance_is_caught():
    """With more than 25 / TV^2 samples for the mutant's TV."""
    (mutant,) = _of_check("assert_sampled_law")
    (rule,), right = mutant.rules, mutant.right
    dense = mutant_instances(mutant)[KINDS.index("dense") :: len(KINDS)]
    laws = [flat(law) for law in outcome_laws(right, rule, dense)]
    counts = [flat(sample_outcomes(mutant.verifier, rule, instance)) for instance in dense]
    tv = [0.5 * np.abs(n / ROWS - law).sum() for n, law in zip(counts, laws, strict=True)]
    print(f"{mutant.name}: TV of the block's law {np.round(tv, 3)}")
    np.testing.assert_allclose(np.median(tv), mutant.median_tv[0], atol=0.01)
    assert 25 / np.median(tv) ** 2 <= ROWS
    with pytest.raises(AssertionError, match="do not follow"):
        assert_sampled_law(mutant.verifier, rule, dense[:1], right=right, false_alarm=FALSE_ALARM)


@dataclasses.dataclass(frozen=True)
class _WithField(RecursiveRejection):
    kind: str = ""


def test_the_first_argument_of_a_subclass_is_its_own_field():
    assert _WithField("mine") == _WithField(kind="mine", all_nodes=None)
    with pytest.raises(TypeError, match="positional argument"):
        RecursiveRejection(True)


# The kit itself: verifiers that cannot be enumerated, or return nonsense, fail loudly.


class _Custom(Verifier):
    """Accepts the only child by the function `accept`, without the laws."""

    def __init__(self, accept=lambda u: u < -1.0, path=1, law=jnp.exp):
        self.accept, self.path, self.law = accept, path, law

    @property
    def accepts(self):
        return frozenset(SiblingLaw)

    def decide(self, tree: DraftTree, target: TargetLaws, uniforms: jax.Array) -> Decision:
        accepted = self.accept(uniforms[1])
        node = jnp.where(accepted, self.path, NO_NODE)
        return Decision(
            num_accepted=accepted.astype(jnp.int32),
            path=node[None].astype(jnp.int32),
            ranks=jnp.where(accepted, 0, NO_NODE)[None].astype(jnp.int32),
            law=self.law(target.at(jnp.where(accepted, 1, 0))),
            finite=jnp.asarray(True),
            empty_residuals=jnp.asarray(0, jnp.int32),
        )


def test_the_kit_catches_what_it_cannot_enumerate():
    instances = random_instances(3, 1, len(KINDS))
    rule = _FIXED((1,))
    assert assert_lossless(_Custom(), rule, instances) < 1e-12  # never accepts: lossless
    for wrong, message in (
        (_Custom(accept=lambda u: (u < 0.25) | (u > 0.75)), "one threshold"),
        (_Custom(accept=lambda u: u < 0.5), "not lossless"),
        (_Custom(accept=lambda u: u < 0.5, path=0), "not a chain of valid nodes"),
        (_Custom(law=lambda log_p: log_p), "not a law"),
    ):
        with pytest.raises(AssertionError, match=message):
            assert_lossless(wrong, rule, instances)
    with pytest.raises(TypeError, match="drawn_trees"):
        assert_lossless(_Custom(), "constant_branching", instances)


def test_float32_decides_like_float64():
    """Measured: laws after rejections differ by less than 1e-6 unless a residual is tiny."""
    instances = [
        i
        for k, i in enumerate(random_instances(4, 1, 4 * len(KINDS)))
        if KINDS[k % len(KINDS)] in ("dense", "peaked", "zeros in both")
    ]
    rng = np.random.default_rng(0)
    for verifier, rule in ((RecursiveRejection(), _FIXED((3,))), (KSeq(), _CHAINS(3, 1))):
        problem = make_problem([drawn_trees(rule, i.draft) for i in instances], instances)
        which = np.repeat(np.arange(len(problem.tokens)), 8)
        coins = rng.random((len(which), problem.shape.num_nodes)).astype(np.float32)
        exact = decide_rows(verifier, problem, which, coins)
        single = decide_rows(verifier, problem, which, coins, dtype="float32")
        assert single.law.dtype == np.float32
        equal = (exact.path == single.path).all(-1)
        error = np.abs(exact.law - single.law).max(-1)[equal]
        print(
            f"{type(verifier).__name__}: float32 off by {error.max():.1e}, "
            f"{(~equal).sum()} of {len(equal)} decisions differ"
        )
        assert (~equal).mean() < 1e-3
        assert np.quantile(error, 0.99) < 1e-5


def test_laws_of_later_siblings_in_float32():
    """After a sibling with nearly all the mass, where 1 - q(x) is 0 or rounded in float32."""
    for gap in (5.0, 12.0, 17.0, 30.0):
        logits = np.asarray([gap, 1.0, 0.5, 0.0, -1.0])
        log_q = jax.nn.log_softmax(jnp.asarray(logits, jnp.float32))
        law = np.exp(np.asarray(exclude(log_q, jnp.asarray([0])), np.float64))
        exact = np.where(np.arange(5) == 0, 0.0, np.exp(logits))
        np.testing.assert_allclose(law, exact / exact.sum(), rtol=1e-5)


@pytest.mark.parametrize(
    ("verifier", "rule"), [(RecursiveRejection(), _FIXED((3,))), (KSeq(), _CHAINS(3, 1))], ids=str
)
def test_no_threshold_takes_nearly_equal_laws_for_equal(verifier, rule):
    """The next token comes from the residual even if the residual has little mass."""
    rng = np.random.default_rng(0)
    instances = []
    for share in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5):
        q, other = rng.dirichlet(np.ones(4), (2, 1))
        p = (1.0 - share) * q + share * other
        instances.append(Instance(target=(p, np.tile(p, (4, 1))), draft=(q,)))
    assert assert_lossless(verifier, rule, instances) < 1e-12


# Laws that are none.


def _hand_made_tree(rows: int) -> tuple[DraftTree, np.ndarray]:
    """Two chains of two tokens, 0 1 and 1 2, from uniform laws over V = 4."""
    shape = TreeShape.from_branching((2, 1))
    tokens = jnp.tile(jnp.asarray([3, 0, 1, 1, 2], jnp.int32), (rows, 1))
    tree = DraftTree(
        tokens=tokens,
        parents=jnp.tile(jnp.asarray(shape.static_parents), (rows, 1)),
        valid=jnp.ones((rows, 5), bool),
        scores=jnp.zeros((rows, 5), jnp.float32),
        laws=DenseLaws(logprobs=jnp.full((rows, 3, 4), -np.log(4.0), jnp.float32)),
        finite=jnp.ones((rows,), bool),
        shape=shape,
        siblings=SiblingLaw.IID,
    )
    return tree, np.zeros((rows, 5, 4), np.float32)


def _one_of_the_chains(tree: DraftTree) -> DraftTree:
    """The chain 0 1 of a hand-made tree, for verifiers of a chain."""
    shape, slots = TreeShape.from_branching((1, 1)), np.asarray([0, 1, 3])
    one = jax.tree.map(lambda x: x[:, slots], tree.replace(laws=None, finite=None))
    return one.replace(
        parents=jnp.broadcast_to(shape.static_parents, one.parents.shape),
        laws=DenseLaws(logprobs=tree.laws.logprobs[:, :2]),
        finite=tree.finite,
        shape=shape,
    )


@pytest.mark.parametrize("name", sorted(VERIFIERS | parts.VERIFIERS))
def test_laws_that_are_none_are_flagged_where_they_are_read(name):
    tree, logits = _hand_made_tree(6)
    logits[1, 0, 2] = np.nan  # the root is always read
    logits[2, 0] = -np.inf
    logits[3, 0, :2], logits[3, 1:] = -np.inf, np.nan  # nothing is accepted: not read
    logits[4, 0, 1:], logits[4, 1, 0] = -np.inf, np.nan  # token 0, node 1, must be accepted
    logits[5, 0, 1:], logits[5, 1, [0, 2, 3]] = -np.inf, -np.inf  # accepts 0, then 1
    logits[5, 2] = np.nan  # node 2 is not reached
    keys = block_keys(row_keys(0, jnp.arange(6)), jnp.zeros((6,), jnp.int32))
    verifier = (VERIFIERS | parts.VERIFIERS)[name]()
    if not small_parts.fits(verifier, _CHAINS(2, 2)):
        tree, logits = _one_of_the_chains(tree), logits[:, [0, 1, 3]]
    # In these rows what can be reached is reached.
    reached = [True, False, False, True, False, True]
    expected = {
        Reads.REACHED: reached,
        Reads.REACHABLE: reached,
        Reads.VALID: np.isfinite(logits.max(-1)).all(-1),
    }[verifier.reads]
    target = TargetLaws(logits=jnp.asarray(logits), warp=make_warp(1.0))
    ways = [verifier]
    if isinstance(verifier, NodeVerifier):
        ways = [dataclasses.replace(verifier, all_nodes=choice) for choice in (False, True)]
    verify = jax.jit(lambda tree, target: [way.verify(tree, target, keys) for way in ways])
    for result in verify(tree, target):
        np.testing.assert_array_equal(result.finite, expected)
        assert not result.empty_residuals.any()


def test_empty_residuals_are_counted():
    """q is above p everywhere, only by rounding: after a rejection the residual is empty."""
    tree, logits = _hand_made_tree(1)
    tree = tree.replace(laws=DenseLaws(logprobs=tree.laws.logprobs + 1e-6))
    row, coins = jax.tree.map(lambda x: x[0], tree), jnp.full((5,), 1.0 - 2.0**-23, jnp.float32)
    target = TargetLaws(logits=jnp.asarray(logits[0]), warp=make_warp(1.0))
    decision = jax.jit(RecursiveRejection().decide)(row, target, coins)
    assert decision.num_accepted == decision.empty_residuals == 2
    assert decision.ranks.tolist() == [0, 0]
    decision = jax.jit(RecursiveRejection().decide)(row, target, jnp.zeros_like(coins))
    assert (decision.num_accepted, decision.empty_residuals) == (2, 0)


def test_greedy_follows_the_argmax():
    tree, logits = _hand_made_tree(6)
    logits[0, 0, 0] = logits[0, 1, 1] = logits[0, 3, 2] = 1.0  # accepts 0, then 1, then emits 2
    logits[1, 0, 1] = 1.0  # accepts the second child, then emits the lowest id of a tie
    logits[2, 0, 3] = 1.0  # no child
    logits[3, 0, [1, 2]] = 1.0  # tie: 1, the second child; its child is not the argmax
    logits[3, 2, 3] = 1.0
    logits[4, 0, 0] = 1.0  # like row 0, but its first child is invalid
    tree = tree.replace(valid=tree.valid.at[4, 1].set(False).at[4, 3].set(False))
    logits[5, 0, 0], logits[5, 1, 0] = 1.0, np.nan  # read; the NaN of row 0 is not
    logits[0, 4, 0] = np.nan
    target = TargetLaws(logits=jnp.asarray(logits), warp=make_warp(0.0))
    result = jax.jit(RecursiveRejection().verify)(tree, target, row_keys(0, jnp.arange(6)))
    none = NO_NODE
    np.testing.assert_array_equal(result.num_accepted[:5], [2, 1, 0, 1, 0])
    np.testing.assert_array_equal(
        result.path[:5], [[1, 3], [2, none], [none, none], [2, none], [none, none]]
    )
    np.testing.assert_array_equal(
        result.ranks[:5], [[0, 0], [1, none], [none, none], [1, none], [none, none]]
    )
    np.testing.assert_array_equal(result.next_token[:5], [2, 0, 3, 3, 0])
    np.testing.assert_array_equal(result.finite, [True] * 5 + [False])
