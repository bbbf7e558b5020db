"""Match: sample the target's token and go on if it was drafted (SpecInfer's naive sampling)."""

import dataclasses

import jax
import jax.numpy as jnp

from rsd_jax.core.tree import DraftTree, SiblingLaw
from rsd_jax.verifiers.base import Stops, TargetLaws
from rsd_jax.verifiers.stops import StopVerifier, law_of_stop


@dataclasses.dataclass(frozen=True)
class Match(StopVerifier):
    """Draws y from p at a node; goes down to the child y if there is one, else emits y.

    The draft's laws are not read, so any tree will do. Nodes with the same prefix are one node,
    whose children are those of all its copies; the first slot stands for all of them. For trees
    that are not random (point masses) no lossless verifier accepts more.
    """

    @property
    def accepts(self) -> frozenset[SiblingLaw]:
        return frozenset(SiblingLaw)

    def stops(self, tree: DraftTree, target: TargetLaws) -> Stops:
        shape, places = tree.shape, jnp.asarray(tree.shape.parent_index)
        first = _first_copies(tree)
        parents = first[jnp.maximum(tree.parents, 0)]
        lawful, p = target.probabilities(shape)
        p_of_token = p[places[parents], tree.tokens]
        slots = jnp.arange(shape.num_nodes, dtype=jnp.int32)
        is_first = tree.valid & (first == slots)
        reached = jnp.ones_like(p_of_token)
        for _ in range(shape.depth):
            reached = jnp.where(slots == 0, 1.0, reached[parents] * p_of_token)
        reached = jnp.where(is_first, reached, 0.0)
        drafted = tree.valid & (slots > 0)
        rest = p.at[jnp.where(drafted, places[parents], len(p)), tree.tokens].set(0.0, mode="drop")
        left = jnp.ones_like(reached).at[shape.parent_slots].set(rest.sum(-1))

        def law(node: jax.Array) -> jax.Array:
            return law_of_stop(tree, target, node, lambda place: rest[place])

        finite = (lawful | (reached == 0.0)).all()
        return Stops(reached * left, law, finite, jnp.zeros((), jnp.int32))


def _first_copies(tree: DraftTree) -> jax.Array:
    """i32[N]: of each valid node of one row the first slot with the same prefix."""
    shape = tree.shape
    slots, depths = jnp.arange(shape.num_nodes, dtype=jnp.int32), jnp.asarray(shape.depths)
    alike = tree.valid[:, None] & tree.valid[None] & (depths[:, None] == depths[None])
    alike &= (tree.tokens[:, None] == tree.tokens[None]) | (depths == 0)[:, None]
    first = slots
    for _ in range(shape.depth):
        above = first[jnp.maximum(tree.parents, 0)]
        same = alike & (above[:, None] == above[None])
        first = jnp.where(same, slots[None], slots[:, None]).min(axis=1)
    return first
