"""The exact output law of a verifier, by enumeration in float64.

A verifier decides about each node with the node's own uniform number. Assume that the decision
changes only at one threshold of each uniform. Then the uniforms of a tree with N - 1 drafted nodes
have 2^(N-1) cells with constant decisions. The volumes of the cells, the probabilities of the
trees and the laws that decisions emit from give the exact law of a block's output. The thresholds
are found by bisection. The assumption is checked at random points of each tree; a verifier that
violates it fails.

`assert_lossless` is the check that your own verifier should pass.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rsd_jax.drafters.tree_law import Table
from rsd_jax.testing.decisions import Decisions, Problem, decide_rows, make_problem, stop_rows
from rsd_jax.testing.drawn_trees import drawn_trees
from rsd_jax.testing.instances import Instance, sequence_law
from rsd_jax.verifiers.base import Verifier
from rsd_jax.verifiers.stops import StopVerifier

_TOP = 1.0 - 2.0**-53  # the largest uniform
_BISECTIONS = 44
_RANDOM_POINTS = 4  # per tree
_NEGLIGIBLE = 1e-9  # weight of a cell that exists only because bisection is not exact

OutcomeLaw = tuple[np.ndarray, ...]
"""Entry a is f64[V**a, V]: the probability that a block accepts exactly the a tokens of the row's
prefix and emits the column's token."""


def thresholds(verifier: Verifier, problem: Problem) -> np.ndarray:
    """f64[Z, N]: value at which the uniform of a slot changes the decision; 1 if none does.

    To find a slot's threshold, the uniforms of its ancestors are set to 0, which accepts them if
    possible, and all other uniforms to the largest value, which rejects if possible. For verifiers
    that treat equal prefixes as one node, the search is repeated with the uniforms of all slots
    with the ancestors' prefixes at 0. A slot that neither search reaches counts as unreachable.
    """
    ancestors = problem.ancestors()
    out = np.ones(problem.tokens.shape)
    missing = problem.valid.copy()
    missing[:, 0] = False
    tried = np.zeros_like(ancestors)
    for accepted in (ancestors, problem.same_prefix(ancestors)):
        new = (accepted != tried).any(-1) | (accepted is ancestors)
        trees, slots = np.nonzero(missing & new)
        tried = accepted
        base = np.where(accepted[trees, slots], 0.0, _TOP)
        found, values = _bisect(verifier, problem, trees, slots, base)
        out[trees[found], slots[found]] = values
        missing[trees[found], slots[found]] = False
    return out


def _bisect(
    verifier: Verifier, problem: Problem, trees: np.ndarray, slots: np.ndarray, base: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of rows in which the slot's uniform matters, and thresholds; others as in `base`."""

    def at(rows: np.ndarray, value: np.ndarray | float) -> Decisions:
        uniforms = base[rows]
        uniforms[np.arange(len(rows)), slots[rows]] = value
        return decide_rows(verifier, problem, trees[rows], uniforms)

    rows = np.arange(len(trees))
    below = at(rows, 0.0)
    rows = np.flatnonzero(~below.same_as(at(rows, _TOP)))
    below, low, high = below[rows], np.zeros(len(rows)), np.full(len(rows), _TOP)
    for _ in range(_BISECTIONS if len(rows) else 0):
        middle = 0.5 * (low + high)
        same = at(rows, middle).same_as(below)
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    return rows, 0.5 * (low + high)


@dataclasses.dataclass(frozen=True, eq=False)
class _Cells:
    """A grid over the cube of each tree's uniforms; slots of one group share an axis.

    Attributes:
      members: the slots of each group.
      edges: per group f64[Z, m + 2]: 0, the group's m thresholds in ascending order, 1.
    """

    members: list[np.ndarray]
    edges: list[np.ndarray]

    @classmethod
    def between(cls, thresholds: np.ndarray, groups: Sequence[int]) -> "_Cells":
        names = np.asarray(groups)
        members = [np.flatnonzero(names == name) for name in np.unique(names[1:])]
        members = [slots[slots > 0] for slots in members]  # the root's uniform is not used
        ends = np.zeros((len(thresholds), 1)), np.ones((len(thresholds), 1))
        inner = [np.sort(thresholds[:, slots], axis=1) for slots in members]
        return cls(members, [np.concatenate([ends[0], x, ends[1]], axis=1) for x in inner])

    def volumes_and_midpoints(self, slots: int) -> tuple[np.ndarray, np.ndarray]:
        """Volumes f64[Z, C] and midpoints f64[Z, C, N] of the cells, in row-major order."""
        choices = list(itertools.product(*(range(e.shape[1] - 1) for e in self.edges)))
        trees = len(self.edges[0]) if self.edges else 1
        volumes = np.ones((trees, len(choices)))
        midpoints = np.full((trees, len(choices), slots), 0.5)
        for c, choice in enumerate(choices):
            for members, edges, i in zip(self.members, self.edges, choice, strict=True):
                low, high = edges[:, i], edges[:, i + 1]
                volumes[:, c] *= high - low
                midpoints[:, c, members] = 0.5 * (low + high)[:, None]
        return volumes, midpoints

    def random_points(
        self, rng: np.random.Generator, which: np.ndarray, slots: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Random points f64[n, N] for trees `which`, and the points' cells int[n]."""
        points = rng.random((len(which), slots))
        cell = np.zeros(len(which), int)
        for members, edges in zip(self.members, self.edges, strict=True):
            coin = rng.random(len(which))
            points[:, members] = coin[:, None]
            inner = edges[which, 1:-1]
            cell = cell * (inner.shape[1] + 1) + (coin[:, None] >= inner).sum(-1)
        return points, cell


def outcome_laws(
    verifier: Verifier,
    rule: Any,
    instances: Sequence[Instance],
    *,
    drawn_from: Callable[[Table], Table] | None = None,
    coins: Sequence[int] | None = None,
) -> list[OutcomeLaw]:
    """The exact law of a block's output, for each instance.

    Args:
      verifier: the verifier to enumerate.
      rule: how trees are drawn, see `drawn_trees`.
      instances: all with the same V, and at least as deep as the rule.
      drawn_from: maps the draft's table to the table that trees are really drawn from, to test a
        draft with wrong laws; by default both are the same.
      coins: N names of uniforms; slots with the same name share a uniform. Default: no sharing.

    Raises:
      AssertionError: the verifier does not have one threshold per node, returns an impossible
        path, or has no law to emit from.
    """
    tables = [i.draft if drawn_from is None else drawn_from(i.draft) for i in instances]
    problem = make_problem([drawn_trees(rule, table) for table in tables], instances)
    if isinstance(verifier, StopVerifier):
        return laws_of_stops(verifier, problem, instances)
    slots = problem.shape.num_nodes
    limits = thresholds(verifier, problem)
    cells = _Cells.between(limits, range(slots) if coins is None else coins)
    volumes, midpoints = cells.volumes_and_midpoints(slots)

    place = np.full(volumes.shape, -1)
    trees, which_cell = np.nonzero(volumes)
    place[trees, which_cell] = np.arange(len(trees))
    decisions = decide_rows(verifier, problem, trees, midpoints[trees, which_cell])
    _check_constant(verifier, problem, cells, place, decisions)

    weights = problem.probability[trees] * volumes[trees, which_cell]
    return [
        _collect(problem, trees[mine], weights[mine], decisions[mine], instance.vocab_size)
        for i, instance in enumerate(instances)
        for mine in [np.flatnonzero(problem.instance[trees] == i)]
    ]


def laws_of_stops(
    verifier: StopVerifier, problem: Problem, instances: Sequence[Instance]
) -> list[OutcomeLaw]:
    mass, law = stop_rows(verifier, problem)
    if not (np.isfinite(mass).all() and (mass >= 0).all()):
        raise AssertionError(f"a block stops with probabilities {mass[~(mass >= 0).all(-1)][0]}")
    if (mass[~problem.valid] > 0).any():
        raise AssertionError("a block stops at an invalid node")
    np.testing.assert_allclose(mass.sum(-1), 1.0, atol=_NEGLIGIBLE)
    trees, nodes = np.nonzero(mass)
    law = law[trees, nodes]
    is_law = (law >= 0).all(-1) & np.isclose(law.sum(-1), 1.0, rtol=0.0, atol=_NEGLIGIBLE)
    if not is_law.all():
        raise AssertionError(f"a block emits from {law[np.argmin(is_law)]}, not a law")
    weights = problem.probability[trees] * mass[trees, nodes]
    depths, prefix = problem.shape.depths[nodes], problem.prefix[trees, nodes]
    out = []
    for i, instance in enumerate(instances):
        tables = []
        for depth in range(problem.shape.depth + 1):
            here = (problem.instance[trees] == i) & (depths == depth)
            table = np.zeros((instance.vocab_size**depth, instance.vocab_size))
            np.add.at(table, prefix[here], law[here] * weights[here, None])
            tables.append(table)
        out.append(tuple(tables))
    return out


def _check_constant(
    verifier: Verifier, problem: Problem, cells: _Cells, place: np.ndarray, decisions: Decisions
) -> None:
    which = np.repeat(np.arange(len(problem.tokens)), _RANDOM_POINTS)
    rng = np.random.default_rng(0)
    points, cell = cells.random_points(rng, which, problem.shape.num_nodes)
    expected = decisions[place[which, cell]]
    same = decide_rows(verifier, problem, which, points).same_as(expected)
    if not same.all():
        row = int(np.argmin(same))
        raise AssertionError(
            f"{type(verifier).__name__} does not decide about every node by one threshold of "
            f"that node's uniform, so its law cannot be enumerated: uniforms {points[row]} on "
            f"tokens {problem.tokens[which[row]]} give another decision than their cell"
        )


def _collect(
    problem: Problem, trees: np.ndarray, weights: np.ndarray, decisions: Decisions, vocab: int
) -> OutcomeLaw:
    law = decisions.law
    is_law = np.isfinite(law).all(-1) & (law >= 0.0).all(-1) & (law.sum(-1) > 0.0)
    if (weights[~is_law] > _NEGLIGIBLE).any():
        raise AssertionError(f"a decision emits from {law[np.argmin(is_law)]}, not a law")
    law = np.where(is_law[:, None], law, 1.0)
    # Normalised, as the draw that ends a block normalises too.
    law = law / law.sum(-1, keepdims=True) * weights[:, None]
    last = np.maximum(decisions.num_accepted - 1, 0)
    node = (
        np.take_along_axis(decisions.path, last[:, None], axis=1)[:, 0]
        if (problem.shape.depth)
        else last
    )
    prefix = problem.prefix[trees, np.where(decisions.num_accepted > 0, node, 0)]
    out = []
    for accepted in range(problem.shape.depth + 1):
        here = decisions.num_accepted == accepted
        table = np.zeros((vocab**accepted, vocab))
        np.add.at(table, prefix[here], law[here])
        out.append(table)
    return tuple(out)


def extended(outcomes: OutcomeLaw, target: Table) -> np.ndarray:
    """The law over sequences of len(target) tokens: a block, continued by the target."""
    vocab = target[0].shape[-1]
    joint = np.zeros(vocab ** len(target))
    for accepted, stopped in enumerate(outcomes):
        tail = stopped.reshape(-1)
        for laws in target[accepted + 1 :]:
            tail = (tail[:, None] * laws).reshape(-1)
        joint += tail
    return joint


def output_law(verifier: Verifier, rule: Any, instance: Instance, **options) -> np.ndarray:
    """f64[V**(D + 1)]: the law of the first D + 1 tokens of a block continued by the target.

    Arguments as in `outcome_laws`.
    """
    (outcomes,) = outcome_laws(verifier, rule, [instance], **options)
    return extended(outcomes, instance.target)


def total_variations(
    verifier: Verifier, rule: Any, instances: Sequence[Instance], **options
) -> np.ndarray:
    """f64[len(instances)]: TV between a verifier's output law and the target's law.

    Arguments as in `outcome_laws`.
    """
    outcomes = outcome_laws(verifier, rule, instances, **options)
    laws = [extended(o, i.target) for o, i in zip(outcomes, instances, strict=True)]
    exact = [sequence_law(i.target) for i in instances]
    return np.asarray([0.5 * np.abs(a - b).sum() for a, b in zip(laws, exact, strict=True)])


def assert_lossless(
    verifier: Verifier,
    rule: Any,
    instances: Sequence[Instance],
    *,
    atol: float = 1e-6,
    **options,
) -> float:
    """Asserts that a verifier's output law is the target's, on every instance.

    Arguments as in `outcome_laws`; returns the largest absolute error of a probability.

    Raises:
      AssertionError: the laws differ, or the verifier's law cannot be enumerated.
    """
    worst = 0.0
    outcomes = outcome_laws(verifier, rule, instances, **options)
    for number, (outcome, instance) in enumerate(zip(outcomes, instances, strict=True)):
        error = float(
            np.abs(extended(outcome, instance.target) - sequence_law(instance.target)).max()
        )
        if not error <= atol:
            raise AssertionError(
                f"{type(verifier).__name__} is not lossless under {type(rule).__name__}: on "
                f"instance {number} a probability is off by {error:.2e}, more than {atol:.0e}"
            )
        worst = max(worst, error)
    return worst


def assert_strict(verifier: Verifier, rule: Any, vocab_size: int) -> None:
    """Asserts that a uniform of exactly 0 does not accept a token that the target cannot emit.

    A uniform of 0 has probability 2^-23 in float32, too small to show in a law.

    Args:
      verifier: any verifier.
      rule: a rule of depth 1.
      vocab_size: V, at least 2.

    Raises:
      AssertionError: the verifier accepts such a token.
    """
    q = np.eye(1, vocab_size)
    p = (1.0 - q) / (vocab_size - 1)
    instance = Instance(target=(p, np.tile(p, (vocab_size, 1))), draft=(q,))
    problem = make_problem([drawn_trees(rule, instance.draft)], [instance])
    coins = np.zeros((1, problem.shape.num_nodes))
    if decide_rows(verifier, problem, np.zeros(1, int), coins).num_accepted[0]:
        raise AssertionError(f"{type(verifier).__name__} accepts a token of probability 0")
