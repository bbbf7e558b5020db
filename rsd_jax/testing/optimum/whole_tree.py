"""The optimum of a whole tree, by a linear programme over where to stop in each tree."""

from typing import Any

import numpy as np

from rsd_jax.drafters.tree_law import Table
from rsd_jax.errors import ConfigError
from rsd_jax.testing.drawn_trees import DrawnTrees
from rsd_jax.testing.instances import Instance, prefix_indices

_TOLERANCE = 1e-10  # the least that HiGHS takes


def whole_tree_optimum(trees: DrawnTrees, instance: Instance) -> float:
    """Expected tokens per block of the best lossless verifier of the drawn trees. Exact.

    The variables are s(T, v), the probability that T is drawn and the block stops at its node v,
    and W(u), the probability that prefix u is accepted; nodes of a tree with equal prefixes are
    one node. Maximised is 1 + sum over u other than the root of W(u), where

        sum over v of s(T, v) = Pr(T),
        W(u) = sum over T of s(T, u) + sum over y of W(uy),
        W(uy) <= W(u) p(y|u).

    Every lossless verifier obeys this, and every solution is one: after a stop at u emit y with
    probability proportional to W(u) p(y|u) - W(uy). Trees with the same prefixes are merged
    before, which changes nothing: what is stopped at in all of them is divided among them.

    Args:
      trees: from `drawn_trees(rule, instance.draft)`; Z trees of N nodes.
      instance: as deep as the trees at least. Only its target is read.

    Returns:
      The optimum; HiGHS keeps each constraint to 1e-10.

    Raises:
      ConfigError: scipy is missing, or the instance is too shallow or has too few tokens.
      AssertionError: the programme was not solved.
    """
    linprog, coo = _solver()
    vocab, depth = instance.vocab_size, trees.shape.depth
    if depth > instance.depth or trees.tokens[trees.valid].max() >= vocab:
        raise ConfigError(
            f"trees of depth {depth} need an instance of this depth and vocabulary; its depth is "
            f"{instance.depth}, its vocabulary {vocab}: draw the trees from `instance.draft`"
        )
    if depth == 0:
        return 1.0
    members, probability = _distinct(trees, vocab)
    flow, limit = _constraints(coo, members, *_chances(instance.target, depth))
    prefixes = members.shape[1]
    gain = np.zeros(flow.shape[1])
    gain[1 - prefixes :] = 1.0  # W of all prefixes but the root's
    solution = linprog(
        -gain,
        A_ub=limit,
        b_ub=np.zeros(prefixes - 1),
        A_eq=flow,
        b_eq=np.concatenate([probability, np.zeros(prefixes)]),
        method="highs",
        options={
            "primal_feasibility_tolerance": _TOLERANCE,
            "dual_feasibility_tolerance": _TOLERANCE,
        },
    )
    if not solution.success:
        raise AssertionError(f"the optimum was not found: {solution.message}")
    return 1.0 - float(solution.fun)


def _constraints(
    coo: Any, members: np.ndarray, chance: np.ndarray, parent: np.ndarray
) -> tuple[Any, Any]:
    """Left sides of the equalities and of the inequalities, sparse.

    Args:
      coo: constructor of sparse matrices.
      members, chance, parent: see `_distinct` and `_chances`.

    Returns:
      [T + P, S + P] and [P - 1, S + P]; the columns are s(T, v), S of them, and then W(u).
    """
    tree, stop = np.nonzero(members)
    trees, prefixes = members.shape
    s, w = np.arange(len(tree)), len(tree) + np.arange(prefixes)
    ones, below = np.ones(len(tree)), np.ones(prefixes - 1)
    at = trees + np.arange(prefixes)  # the row of each prefix
    flow = coo(
        (
            np.concatenate([ones, ones, below, -np.ones(prefixes)]),
            (
                np.concatenate([tree, at[stop], at[parent], at]),
                np.concatenate([s, s, w[1:], w]),
            ),
        ),
        shape=(trees + prefixes, len(tree) + prefixes),
    )
    limit = coo(
        (
            np.concatenate([below, -chance]),
            (np.tile(np.arange(prefixes - 1), 2), np.concatenate([w[1:], w[parent]])),
        ),
        shape=(prefixes - 1, len(tree) + prefixes),
    )
    return flow.tocsr(), limit.tocsr()


def _solver() -> tuple[Any, Any]:
    """`linprog` and a constructor of sparse matrices."""
    try:
        from scipy.optimize import linprog
        from scipy.sparse import coo_matrix
    except ImportError as error:
        raise ConfigError(
            f"the optimum of a tree needs the package scipy ({error}): install it"
        ) from None
    return linprog, coo_matrix


def _distinct(trees: DrawnTrees, vocab: int) -> tuple[np.ndarray, np.ndarray]:
    """Trees as sets of prefixes, each once: bool[T, P] and their probabilities, f64[T].

    The prefixes are numbered level by level, the root's is 0.
    """
    shape = trees.shape
    first = np.cumsum([0, *(vocab**d for d in range(shape.depth + 1))])
    index = prefix_indices(shape, trees.tokens, trees.parents, vocab) + first[shape.depths]
    members = np.zeros((len(index), first[-1]), bool)
    tree, slot = np.nonzero(trees.valid)
    members[tree, index[tree, slot]] = True
    members, which = np.unique(members, axis=0, return_inverse=True)
    return members, np.bincount(which.reshape(-1), weights=trees.probability)


def _chances(target: Table, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """For each prefix but the root's: p of its last token, f64[P - 1], and its parent, i64[P - 1].

    Numbered as in `_distinct`, where the children of one prefix stand next to each other.
    """
    chance = np.concatenate([laws.reshape(-1) for laws in target[:depth]])
    return chance, np.arange(len(chance)) // target[0].shape[-1]
