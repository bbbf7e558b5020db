"""What verifiers accept below one node, beside what the best lossless verifier accepts.

The contexts are the roots of the first blocks of a run. At each of them the children of the root
are drawn anew many times, without their descendants: one tree says little about a verifier.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from rsd_jax.core.sampling import row_keys
from rsd_jax.core.tree import DraftTree, SiblingLaw
from rsd_jax.core.warp import make_warp
from rsd_jax.drafters.base import Drafter
from rsd_jax.drafters.constant_branching import ConstantBranching
from rsd_jax.drafters.growth import TreeRule, grow_tree
from rsd_jax.drafters.independent_chains import IndependentChains
from rsd_jax.verifiers.base import TargetLaws, Verifier
from rsd_jax.verifiers.expected import stop_masses
from rsd_jax.verifiers.optimum import (
    one_node_optimum_iid,
    one_node_optimum_without_replacement,
)

REDRAWS = 64
"""How often the children are drawn at each context."""

_OPTIMA = {
    SiblingLaw.IID: one_node_optimum_iid,
    SiblingLaw.WITHOUT_REPLACEMENT: one_node_optimum_without_replacement,
}


@dataclasses.dataclass(frozen=True)
class RootAcceptance:
    """What is accepted below the root, in the first blocks of each prompt.

    Attributes:
      blocks: int[P], blocks that were looked at.
      acceptance: f64[P] by verifier, the probability that a child of the root is accepted, a mean
        over `REDRAWS` draws of the children; summed over these blocks.
      optimum: f64[P], the same of the best lossless verifier, exactly.
    """

    blocks: np.ndarray
    acceptance: dict[str, np.ndarray]
    optimum: np.ndarray


@struct.dataclass
class Roots:
    """The laws at the roots of the first M blocks of each row.

    Attributes:
      target, draft: f32[B, M, V], probabilities.
    """

    target: jax.Array
    draft: jax.Array

    @classmethod
    def empty(cls, rows: int, blocks: int, vocab_size: int) -> "Roots":
        """Zeros."""
        laws = jnp.zeros((rows, blocks, vocab_size), jnp.float32)
        return cls(laws, laws)

    def with_block(self, block: jax.Array, tree: DraftTree, target: TargetLaws) -> "Roots":
        """These, with the roots of block i32[]; a block beyond the last is dropped."""
        root = jnp.asarray(0, jnp.int32)

        def laws(
            row: DraftTree, logits: jax.Array, places: jax.Array | None
        ) -> tuple[jax.Array, jax.Array]:
            of_target = TargetLaws(logits, target.warp, places, target.backend)
            return jnp.exp(of_target.at(root)), jnp.exp(row.draft_logprobs_at(root))

        here = Roots(*jax.vmap(laws)(tree, target.logits, target.places))
        return jax.tree.map(lambda every, one: every.at[:, block].set(one, mode="drop"), self, here)


def has_optimum(drafter: Drafter) -> bool:
    """Whether the optimum below the root is known for a drafter's trees.

    The root must have a fixed number of children, drawn i.i.d. or without replacement.
    """
    is_fixed = drafter.shape.depth > 0 and drafter.pass_widths is None
    return is_fixed and SiblingLaw.carried(drafter.sibling_laws) in _OPTIMA


def root_acceptance(
    drafter: Drafter, verifiers: Mapping[str, Verifier], roots: Roots, blocks: np.ndarray
) -> RootAcceptance:
    """Sums over the first blocks of each row of a batch.

    Args:
      drafter: with `has_optimum`.
      verifiers: K verifiers by name, each with `stops`.
      roots: of B rows, on the host; those behind the last of `blocks` are dropped.
      blocks: int[P], blocks of each row of the run.
    """
    law, siblings = SiblingLaw.carried(drafter.sibling_laws), drafter.shape.widths[1]
    iid = law is SiblingLaw.IID
    rule: TreeRule = IndependentChains(siblings, 1) if iid else ConstantBranching((siblings,))
    blocks = np.minimum(blocks, roots.target.shape[1])
    best = [
        sum(_OPTIMA[law](p, q, siblings) for p, q in zip(ps[:count], qs[:count], strict=True))
        for ps, qs, count in zip(roots.target, roots.draft, blocks, strict=False)
    ]
    looked_at = np.arange(roots.target.shape[1]) < blocks[:, None]
    accepted = np.zeros((*looked_at.shape, len(verifiers)))
    laws = (np.asarray(each)[: len(blocks)] for each in (roots.target, roots.draft))
    found = _redrawn(rule, tuple(verifiers.values()), *laws)
    accepted[looked_at] = np.asarray(found, np.float64)[looked_at]
    sums = accepted.sum(axis=1).T
    return RootAcceptance(blocks, dict(zip(verifiers, sums, strict=True)), np.asarray(best))


@functools.partial(jax.jit, static_argnames=("rule", "verifiers"))
def _redrawn(
    rule: TreeRule, verifiers: tuple[Verifier, ...], target: jax.Array, draft: jax.Array
) -> jax.Array:
    """Acceptance of a child at every context, f32[P, M, K], a mean over `REDRAWS` draws.

    Args:
      rule: of trees of depth one.
      verifiers: K of them.
      target, draft: f32[P, M, V], probabilities; junk where there was no block.
    """
    plain, (_, _, vocab) = make_warp(1.0), target.shape

    def at_one(laws: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        p, q, number = laws
        log_p, log_q = (jnp.log(law)[None, None] for law in (p, q))
        requests = number * REDRAWS + jnp.arange(REDRAWS, dtype=jnp.int32)

        def score(level: int, tokens: jax.Array, visible: jax.Array, carry: tuple) -> tuple:
            return jnp.broadcast_to(log_q, (REDRAWS, 1, vocab)), carry

        root = jnp.zeros((REDRAWS,), jnp.int32)
        tree, _ = grow_tree(rule, score, (), root, warp=plain, keys=row_keys(0, requests))
        # A leaf's law is not used, but has to be one.
        logits = jnp.broadcast_to(log_p, (REDRAWS, tree.shape.num_nodes, vocab))
        laws_of_target = TargetLaws(logits, plain)
        rejected = [stop_masses(one, tree, laws_of_target)[:, 0].mean() for one in verifiers]
        return 1.0 - jnp.stack(rejected)

    flat = [law.reshape(-1, vocab) for law in (target, draft)]
    numbers = jnp.arange(len(flat[0]), dtype=jnp.int32)
    return jax.lax.map(at_one, (*flat, numbers)).reshape(*target.shape[:2], -1)


def joined(batches: Sequence[RootAcceptance]) -> RootAcceptance:
    """The prompts of all batches in order."""
    return RootAcceptance(
        np.concatenate([one.blocks for one in batches]),
        {
            name: np.concatenate([one.acceptance[name] for one in batches])
            for name in batches[0].acceptance
        },
        np.concatenate([one.optimum for one in batches]),
    )
