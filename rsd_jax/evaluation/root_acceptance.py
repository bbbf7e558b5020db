"""What verifiers accept below the root, beside what the best lossless verifier accepts."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from rsd_jax.core.tree import DraftTree, SiblingLaw
from rsd_jax.drafters.base import Drafter
from rsd_jax.verifiers.base import TargetLaws, Verifier
from rsd_jax.verifiers.expected import stop_masses
from rsd_jax.verifiers.optimum import (
    one_node_optimum_iid,
    one_node_optimum_without_replacement,
)

_OPTIMA = {
    SiblingLaw.IID: one_node_optimum_iid,
    SiblingLaw.WITHOUT_REPLACEMENT: one_node_optimum_without_replacement,
}


@dataclasses.dataclass(frozen=True)
class RootAcceptance:
    """What is accepted below the root, in the first blocks of each prompt.

    Attributes:
      blocks: int[P], blocks that were looked at.
      acceptance: f64[P] by verifier, the probability that a child of the root is accepted, given
        the tree; summed over these blocks.
      optimum: f64[P], the same of the best lossless verifier, a mean over all trees that could have
        been drawn; summed over these blocks.
    """

    blocks: np.ndarray
    acceptance: dict[str, np.ndarray]
    optimum: np.ndarray


@struct.dataclass
class Roots:
    """The roots of the first M blocks of each row.

    Attributes:
      target, draft: f32[B, M, V], probabilities.
      acceptance: f32[B, M, K], of K verifiers.
    """

    target: jax.Array
    draft: jax.Array
    acceptance: jax.Array

    @classmethod
    def empty(cls, rows: int, blocks: int, *, vocab: int, verifiers: int) -> "Roots":
        """Zeros."""
        laws = jnp.zeros((rows, blocks, vocab), jnp.float32)
        return cls(laws, laws, jnp.zeros((rows, blocks, verifiers), jnp.float32))

    def with_block(self, block: jax.Array, other: "Roots") -> "Roots":
        """These, with block i32[] from roots without M; a block beyond the last is dropped."""
        return jax.tree.map(lambda all_, one: all_.at[:, block].set(one, mode="drop"), self, other)


def has_optimum(drafter: Drafter) -> bool:
    """Whether the optimum below the root is known for a drafter's trees.

    The root must have a fixed number of children, drawn i.i.d. or without replacement.
    """
    is_fixed = drafter.shape.depth > 0 and drafter.pass_widths is None
    return is_fixed and SiblingLaw.carried(drafter.sibling_laws) in _OPTIMA


def roots_of(verifiers: tuple[Verifier, ...], tree: DraftTree, target: TargetLaws) -> Roots:
    """The roots of one block: as `Roots`, without M."""
    root = jnp.asarray(0, jnp.int32)

    def laws(
        row: DraftTree, logits: jax.Array, places: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        of_target = TargetLaws(logits, target.warp, places, target.backend)
        return jnp.exp(of_target.at(root)), jnp.exp(row.draft_logprobs_at(root))

    stopped = [stop_masses(one, tree, target)[:, 0] for one in verifiers]
    of_target, of_draft = jax.vmap(laws)(tree, target.logits, target.places)
    return Roots(of_target, of_draft, 1.0 - jnp.stack(stopped, axis=1).astype(jnp.float32))


def root_acceptance(
    drafter: Drafter, roots: Roots, blocks: np.ndarray, verifiers: tuple[str, ...]
) -> RootAcceptance:
    """Sums over the first blocks of each row of a batch, by the host.

    Args:
      drafter: with `has_optimum`.
      roots: of B rows; those behind the last of `blocks` are dropped.
      blocks: int[P], blocks of each row of the run.
      verifiers: the names of the K verifiers.
    """
    optimum = _OPTIMA[SiblingLaw.carried(drafter.sibling_laws)]
    siblings = drafter.shape.widths[1]
    blocks = np.minimum(blocks, roots.target.shape[1])
    best = [
        sum(optimum(p, q, siblings) for p, q in zip(ps[:count], qs[:count], strict=True))
        for ps, qs, count in zip(roots.target, roots.draft, blocks, strict=False)
    ]
    looked_at = np.arange(roots.acceptance.shape[1]) < blocks[:, None]
    accepted = np.where(looked_at[..., None], roots.acceptance[: len(blocks)], 0.0)
    sums = accepted.astype(np.float64).sum(axis=1).T
    return RootAcceptance(blocks, dict(zip(verifiers, sums, strict=True)), np.asarray(best))


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
