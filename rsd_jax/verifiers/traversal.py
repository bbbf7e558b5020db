"""Traversal verification of a tree, and block verification, which is the same on a chain."""

import dataclasses

import jax
import jax.numpy as jnp

from rsd_jax.core.tree import DraftTree, SiblingLaw, TreeShape
from rsd_jax.core.types import NO_NODE
from rsd_jax.errors import ConfigError
from rsd_jax.verifiers.measures import Drawn, MeasureVerifier, Taken
from rsd_jax.verifiers.stops import product


@dataclasses.dataclass(frozen=True)
class Traversal(MeasureVerifier):
    """Visits children before their parent, in draw order, and stops at the first node accepted.

    A node v keeps the probability c that it is accepted once its turn comes, and the law t of the
    token that it then emits; at first t = p(·|v) and c = 1 at the root. A child with token x, drawn
    from q, starts with c' = min(1, c t(x) / q(x)). If nothing in the child's subtree is accepted,

        S = sum (c t - q)+,  t <- (c t - q)+ / S,  c <- S / (S + 1 - c).

    Neither c nor t depends on what is accepted, so all of them are known before anything is drawn.
    """

    @property
    def accepts(self) -> frozenset[SiblingLaw]:
        return frozenset(SiblingLaw)

    def take(self, weight: jax.Array, drawn: Drawn) -> Taken:
        whole = drawn.rest + (1.0 - weight[drawn.parent])
        # With c = 1 and S = 0 the child is certain, but for rounding.
        by_rounding = (whole <= 0.0) & (drawn.ratio < 1.0)
        c = jnp.where(by_rounding, 1.0, drawn.ratio)
        whole = jnp.where(whole > 0.0, whole, 1.0)  # if not, S is 0 and the node is rejected
        weight = weight.at[drawn.parent].set(drawn.rest / whole).at[drawn.child].set(c)
        factor = jnp.ones_like(weight).at[drawn.parent].set(1.0 / whole)
        return Taken(weight, factor, c, by_rounding)

    def masses(self, tree: DraftTree, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
        is_child, is_earlier = tree.children(), tree.earlier()

        # In each step what holds for one more level, from the leaves up and from the root down.
        children_fail = jnp.ones_like(weight)
        for _ in range(tree.shape.depth):
            children_fail = product(is_child, (1.0 - weight) * children_fail)
        earlier_fail = product(is_earlier, (1.0 - weight) * children_fail)
        entered = jnp.ones_like(weight)
        for _ in range(tree.shape.depth):
            above = entered[jnp.maximum(tree.parents, 0)] * earlier_fail
            entered = jnp.where(tree.parents == NO_NODE, 1.0, above)
        return entered * children_fail * weight, entered


@dataclasses.dataclass(frozen=True)
class Block(Traversal):
    """Block verification of a chain (Sun et al. 2024): accepts the longest prefix that holds.

    Traversal without siblings: deeper nodes are tried first, so a later success overrides an
    earlier failure.
    """

    def check_shape(self, shape: TreeShape) -> None:
        if shape.max_siblings > 1:
            raise ConfigError(
                f"Block verifies a chain, one child per node; got a tree {shape.words} with up to "
                f"{shape.max_siblings}; choose verifier 'traversal' or 'coupling'"
            )
