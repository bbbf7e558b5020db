"""`Verifier.decide` on many enumerated trees at once, through one compiled program."""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from rsd_jax.core.tree import DenseLaws, DraftTree, SiblingLaw, TreeShape
from rsd_jax.core.types import NO_NODE
from rsd_jax.core.warp import make_warp
from rsd_jax.testing.drawn_trees import DrawnTrees
from rsd_jax.testing.instances import Instance, laws_at, log, prefix_indices
from rsd_jax.verifiers.base import Decision, TargetLaws, Verifier
from rsd_jax.verifiers.stops import StopVerifier

_ROWS = 512  # rows of every call, so that the program is compiled once
_SAME_LAW = 1e-9
# The target's temperature is not 1, so that a law without its warp is wrong. Dividing by a power
# of two is exact.
_TEMPERATURE = 0.5


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """Z trees, of one or several instances, and the laws at their nodes.

    Attributes:
      shape: shape of all trees.
      instance: int[Z], index of the instance that a tree was drawn from.
      probability: f64[Z], probability of the tree, given its instance.
      tokens, parents: i32[Z, N].
      valid: bool[Z, N].
      prefix: int[Z, N], row of a node's prefix in the table of its depth.
      log_q: f64[Z, I, V], the draft's law as the verifier gets it.
      logits: f64[Z, N, V], the target's logits before the warp.
      siblings, child_laws: as in `DrawnTrees`.
    """

    shape: TreeShape
    instance: np.ndarray
    probability: np.ndarray
    tokens: np.ndarray
    parents: np.ndarray
    valid: np.ndarray
    prefix: np.ndarray
    log_q: np.ndarray
    logits: np.ndarray
    siblings: SiblingLaw
    child_laws: np.ndarray | None = None

    def ancestors(self) -> np.ndarray:
        """bool[Z, N, N]: entry (i, j) says whether j is a proper ancestor of i."""
        trees, slots = self.tokens.shape
        out, each = np.zeros((trees, slots, slots), bool), np.arange(trees)
        for slot in range(1, slots):
            parent = self.parents[:, slot]
            out[:, slot] = out[each, parent]
            out[each, slot, parent] = True
        return out

    def same_prefix(self, relation: np.ndarray) -> np.ndarray:
        """bool[Z, N, N]: `relation` extended to all slots with the prefix of a related slot."""
        depths = np.broadcast_to(self.shape.depths, self.prefix.shape)
        equal = (depths[:, :, None] == depths[:, None]) & (
            self.prefix[:, :, None] == self.prefix[:, None]
        )
        return np.einsum("zij,zjk->zik", relation, equal & self.valid[:, None])


def make_problem(trees: Sequence[DrawnTrees], instances: Sequence[Instance]) -> Problem:
    """Joins the trees of several instances, which share one shape and one law of siblings."""
    shape, siblings, parts = trees[0].shape, trees[0].siblings, []
    for i, (drawn, instance) in enumerate(zip(trees, instances, strict=True)):
        prefix = prefix_indices(shape, drawn.tokens, drawn.parents, instance.vocab_size)
        target = laws_at(instance.target[: shape.depth + 1], shape, prefix)
        draft = laws_at(instance.draft[: max(shape.depth, 1)], shape, prefix)
        parts.append(
            {
                "instance": np.full(len(prefix), i),
                "probability": drawn.probability,
                "tokens": drawn.tokens,
                "parents": drawn.parents,
                "valid": drawn.valid,
                "prefix": prefix,
                "log_q": log(draft),
                "logits": log(target) * _TEMPERATURE,
            }
            | ({} if drawn.child_laws is None else {"child_laws": drawn.child_laws})
        )
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Problem(shape=shape, siblings=siblings, **joined)


@dataclasses.dataclass(frozen=True, eq=False)
class Decisions:
    """Decisions of n rows: num_accepted i32[n], path i32[n, D], law f64[n, V]."""

    num_accepted: np.ndarray
    path: np.ndarray
    law: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> "Decisions":
        return Decisions(self.num_accepted[rows], self.path[rows], self.law[rows])

    def same_as(self, other: "Decisions") -> np.ndarray:
        """bool[n], whether each row's decision is the same."""
        equal = (self.num_accepted == other.num_accepted) & (self.path == other.path).all(-1)
        return equal & np.isclose(self.law, other.law, 0, _SAME_LAW, equal_nan=True).all(-1)


_OF_TREES = ("verifier", "shape", "siblings")
# Compiling takes longer than running: a check without optimisations takes two thirds of the time.
_QUICK = {"xla_backend_optimization_level": 0}


def _tree(shape, siblings, tokens, parents, valid, child_laws, log_q) -> DraftTree:
    """One row."""
    return DraftTree(
        tokens=tokens,
        parents=parents,
        valid=valid,
        scores=jnp.zeros(tokens.shape, jnp.float32),
        laws=DenseLaws(logprobs=log_q),
        finite=jnp.asarray(True),
        shape=shape,
        siblings=siblings,
        child_laws=child_laws,
    )


def _target(logits: jax.Array) -> TargetLaws:
    return TargetLaws(logits=logits, warp=make_warp(_TEMPERATURE))


@functools.partial(jax.jit, static_argnames=_OF_TREES, compiler_options=_QUICK)
def _decide(verifier, shape, siblings, trees, logits, coins):
    def one(tree, logits, coins) -> Decision:
        return verifier.decide(_tree(shape, siblings, *tree), _target(logits), coins)

    return jax.vmap(one)(trees, logits, coins)


@functools.partial(jax.jit, static_argnames=_OF_TREES, compiler_options=_QUICK)
def _stops(verifier, shape, siblings, trees, logits):
    def one(tree, logits) -> tuple[jax.Array, jax.Array]:
        stops = verifier.stops(_tree(shape, siblings, *tree), _target(logits))
        return stops.mass, jax.vmap(stops.law)(jnp.arange(shape.num_nodes, dtype=jnp.int32))

    return jax.vmap(one)(trees, logits)


def _device() -> jax.Device:
    """The CPU, which has float64 and no launch latency, if JAX was started with it."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return jax.local_devices()[0]


def decide_rows(
    verifier: Verifier,
    problem: Problem,
    which: np.ndarray,
    uniforms: np.ndarray,
    dtype: str = "float64",
) -> Decisions:
    """Calls `verifier.decide` on tree `which[i]` with `uniforms[i]`, for each i.

    Args:
      verifier: any verifier.
      problem: the trees.
      which: int[n].
      uniforms: f64[n, N].
      dtype: dtype of the verifier's computation.

    Raises:
      AssertionError: a path is not a chain of valid nodes from the root.
    """
    out = []
    for start in range(0, max(len(which), 1), _ROWS):
        rows = which[start : start + _ROWS]
        coins = np.full((_ROWS, problem.shape.num_nodes), 0.5, dtype)
        coins[: len(rows)] = uniforms[start : start + _ROWS]
        with jax.enable_x64(True), jax.default_device(_device()):
            decision = _decide(verifier, *_arguments(problem, rows, dtype), coins)
        fields = (decision.num_accepted, decision.path, decision.law)
        out.append([np.asarray(field)[: len(rows)] for field in fields])
    decisions = Decisions(*(np.concatenate(parts) for parts in zip(*out, strict=True)))
    _check_paths(problem, which, decisions)
    return decisions


def _arguments(problem: Problem, rows: np.ndarray, dtype: str) -> tuple:
    """Shape, siblings, trees and logits of at most `_ROWS` trees, padded to as many."""
    trees = np.concatenate([rows, np.zeros(_ROWS - len(rows), int)])
    fields = (problem.tokens, problem.parents, problem.valid, problem.child_laws)
    structure = tuple(None if field is None else field[trees] for field in fields)
    log_q, logits = (laws[trees].astype(dtype) for laws in (problem.log_q, problem.logits))
    return problem.shape, problem.siblings, (*structure, log_q), logits


def stop_rows(
    verifier: StopVerifier, problem: Problem, dtype: str = "float64"
) -> tuple[np.ndarray, np.ndarray]:
    """Where the block stops on every tree, and what it emits there.

    Returns:
      f[Z, N], the probability of each node, and f[Z, N, V], the law that is emitted from there;
      NaN at nodes of probability 0.
    """
    out = []
    for start in range(0, len(problem.tokens), _ROWS):
        rows = np.arange(len(problem.tokens))[start : start + _ROWS]
        with jax.enable_x64(True), jax.default_device(_device()):
            mass, law = _stops(verifier, *_arguments(problem, rows, dtype))
        out.append((np.asarray(mass)[: len(rows)], np.asarray(law)[: len(rows)]))
    mass, law = (np.concatenate(parts) for parts in zip(*out, strict=True))
    return mass, np.where(mass[..., None] > 0, law, np.nan)


def _check_paths(problem: Problem, which: np.ndarray, decisions: Decisions) -> None:
    node = np.zeros(len(which), int)
    for depth in range(problem.shape.depth):
        here = decisions.path[:, depth]
        accepted = depth < decisions.num_accepted
        child = np.where(accepted, here, 0)
        is_child = (problem.parents[which, child] == node) & problem.valid[which, child]
        good = np.where(accepted, is_child, here == NO_NODE)
        if not good.all():
            row = int(np.argmin(good))
            raise AssertionError(
                f"path {decisions.path[row]} with {decisions.num_accepted[row]} accepted is not "
                f"a chain of valid nodes; parents {problem.parents[which[row]]}, valid "
                f"{problem.valid[which[row]]}"
            )
        node = child
