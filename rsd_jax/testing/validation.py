"""Checks the invariants of a draft tree in numpy."""

import jax
import jax.numpy as jnp
import numpy as np

from rsd_jax.core.tree import DraftTree, SiblingLaw
from rsd_jax.core.types import NO_NODE

_ATOL = 1e-4  # rounding of a float32 law over a large vocabulary


def validate_tree(tree: DraftTree, vocab_size: int, *, sampling: SiblingLaw | None = None) -> None:
    """Checks trees with a leading batch axis, row by row.

    Args:
      tree: tree of any drafter.
      vocab_size: V.
      sampling: how siblings were drawn; None for `tree.siblings`.

    Raises:
      AssertionError: an invariant is broken; names the invariant, the row and the slot.
    """
    shape = tree.shape
    tokens, parents, valid, scores = (
        np.asarray(x) for x in (tree.tokens, tree.parents, tree.valid, tree.scores)
    )
    batch = tokens.shape[0]
    for name, array in (
        ("tokens", tokens),
        ("parents", parents),
        ("valid", valid),
        ("scores", scores),
    ):
        _all(np.full(batch, array.shape == (batch, shape.num_nodes)), f"{name} is [B, N]")
    assert tokens.dtype == parents.dtype == np.int32, "tokens and parents are int32"

    _all(valid[:, 0], "the root is valid")
    _all(parents[:, 0] == NO_NODE, "the root has no parent")
    _all((tokens >= 0) & (tokens < vocab_size) | ~valid, "tokens lie in the vocabulary")
    for level in range(1, shape.depth + 1):
        above, here = shape.level(level - 1), shape.level(level)
        inside = (parents[:, here] >= above.start) & (parents[:, here] < above.stop)
        _all(inside, f"parents of level {level} lie in the level above")
    if shape.static_parents is not None:
        _all(parents == shape.static_parents, "parents are those of the shape")
    safe = np.maximum(parents, 0)
    _all(np.take_along_axis(valid, safe, axis=1) | ~valid, "a valid node has a valid parent")
    carried = tree.siblings is SiblingLaw.MIXED
    _all(np.full(batch, (tree.child_laws is not None) == carried), "mixed trees have child laws")
    _check_siblings(tree, tokens, parents, valid, scores, sampling or tree.siblings)
    _check_laws(tree, tokens, safe, valid)


def _check_siblings(tree, tokens, parents, valid, scores, sampling) -> None:
    # Independent draws are in draw order, whatever their scores.
    ranked = sampling is SiblingLaw.WITHOUT_REPLACEMENT
    is_point = _point_masses(tree)
    for slot in range(1, tree.shape.num_nodes):
        for other in range(slot + 1, tree.shape.num_nodes):
            siblings = (parents[:, slot] == parents[:, other]) & valid[:, other]
            # A point mass may follow children that a small support left out.
            drawn = siblings & ~is_point[:, other]
            _all(valid[:, slot] | ~drawn, f"slot {other} has no invalid sibling before it")
            if ranked:
                descending = scores[:, slot] >= scores[:, other]
                _all(descending | ~siblings, f"slots {slot} and {other} descend in score")
                distinct = tokens[:, slot] != tokens[:, other]
                _all(distinct | ~siblings, f"slots {slot} and {other} differ")


def _check_laws(tree, tokens, parents, valid) -> None:
    internal = jnp.arange(tree.shape.num_internal, dtype=jnp.int32)
    if tree.shape.depth == 0:
        return
    laws = jax.vmap(lambda row: jax.vmap(row.draft_logprobs_at)(internal))(tree)
    laws = np.asarray(laws, np.float64)  # [B, I, V]
    # Laws of nodes without children are not checked, as nothing was drawn from them.
    used = with_children(parents, valid)[:, : tree.shape.num_internal]
    with np.errstate(invalid="ignore"):
        sums = np.exp(laws).sum(-1)
    _all((np.abs(sums - 1.0) < _ATOL) | ~used, "laws sum to 1")
    each = np.arange(len(tokens))[:, None]
    of_child = laws[each, np.minimum(parents, tree.shape.num_internal - 1), tokens]
    drawn = np.isfinite(of_child) | ~valid | _point_masses(tree)
    drawn[:, 0] = True
    _all(drawn, "drawn tokens have a finite log probability")


def _point_masses(tree) -> np.ndarray:
    """bool[B, N], which children are proposed with certainty."""
    if tree.child_laws is not None:
        return np.asarray(tree.child_laws) == SiblingLaw.POINT.code
    return np.full(tree.tokens.shape, tree.siblings is SiblingLaw.POINT)


def with_children(parents: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """bool[B, N], whether a node has a valid child; from parents i32[B, N] and valid bool[B, N]."""
    out = np.zeros_like(valid)
    rows, slots = np.nonzero(valid[:, 1:])
    out[rows, parents[rows, slots + 1]] = True
    return out


def _all(holds: np.ndarray, invariant: str) -> None:
    if not holds.all():
        where = ", ".join(str(i) for i in np.argwhere(~holds)[0])
        raise AssertionError(f"invariant of a draft tree broken at [{where}]: {invariant}")
