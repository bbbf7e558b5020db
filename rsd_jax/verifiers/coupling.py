"""Sequential coupling: the undecided block is coupled with every drawn node in turn."""

import dataclasses

import jax
import jax.numpy as jnp

from rsd_jax.core.tree import DraftTree, SiblingLaw
from rsd_jax.verifiers.measures import NEGLIGIBLE, Drawn, MeasureVerifier, Taken


@dataclasses.dataclass(frozen=True)
class Coupling(MeasureVerifier):
    """Couples the outcome of the block, as far as it is known, with one drawn node after another.

    R_u(y) is the probability, given the nodes taken so far, that the block stops at u and emits y;
    at first R_root = p. A node k with parent u and token x, drawn from q, is coupled maximally:
    the mass min(R_u, q) goes from "stop at u, emit y" to the child uy. Given x, that is

        s = min(1, R_u(x) / q(x)),  R_u <- (R_u - q)+,  R_k = s p(·|k),

    and all R_v but R_k are scaled by one factor to the mass 1 - s. Averaged over x the law of the
    output does not change, whatever was drawn before. On chains this is block verification.

    docs/methods.md has the proof. RSD-S trees are taken in the order of their slots, which is the
    order of the draws: a level in descending score, not parent by parent.
    """

    @property
    def accepts(self) -> frozenset[SiblingLaw]:
        return frozenset(SiblingLaw)

    def take(self, weight: jax.Array, drawn: Drawn) -> Taken:
        weight = weight.at[drawn.parent].set(drawn.rest)
        others = weight.sum()
        by_rounding = (drawn.ratio < 1.0) & (others <= NEGLIGIBLE)
        s = jnp.where(by_rounding, 1.0, drawn.ratio)
        factor = jnp.where(s < 1.0, (1.0 - s) / jnp.where(s < 1.0, others, 1.0), 0.0)
        return Taken((weight * factor).at[drawn.child].set(s), factor, s, by_rounding)

    def masses(self, tree: DraftTree, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
        return weight, jnp.ones_like(weight)
