"""Prompt lookup (Saxena 2023): proposes the tokens after the last earlier match of n tokens."""

import dataclasses

import jax
import jax.numpy as jnp

from rsd_jax.core.tree import DraftTree, PointLaws, SiblingLaw, TreeShape
from rsd_jax.drafters.base import Drafter


@dataclasses.dataclass(frozen=True)
class NgramDrafter(Drafter):
    """A chain of point masses; no model, no state, no randomness.

    Attributes:
      length: tokens proposed.
      order: tokens that must match, n.
    """

    length: int
    order: int = 1

    @property
    def shape(self):
        return TreeShape.from_branching((1,) * self.length)

    @property
    def sibling_laws(self):
        return frozenset({SiblingLaw.POINT, SiblingLaw.SINGLE})

    def init(self, models, batch, capacity):
        return ()

    def draft(self, models, params, state, context, warp, keys):
        del params, warp, keys
        proposals, found = jax.vmap(self._look_up)(context.tokens, context.length)
        root = jnp.take_along_axis(context.tokens, context.length[:, None] - 1, axis=1)
        batch, slots = root.shape[0], jnp.arange(self.length, dtype=jnp.int32)
        tree = DraftTree(
            tokens=jnp.concatenate([root, proposals], axis=1),
            parents=jnp.broadcast_to(
                jnp.asarray(self.shape.static_parents)[None], (batch, self.length + 1)
            ),
            valid=jnp.concatenate([jnp.ones((batch, 1), bool), found], axis=1),
            scores=jnp.zeros((batch, self.length + 1), jnp.float32),
            laws=PointLaws(proposals=proposals[:, slots], vocab_size=models.target.vocab_size),
            finite=jnp.ones((batch,), bool),
            shape=self.shape,
            siblings=SiblingLaw.POINT,
        )
        return tree, state

    def _look_up(self, tokens, length):
        """Proposals of one row, i32[L], and whether they are committed text, bool[L]."""
        starts = jnp.arange(tokens.shape[0], dtype=jnp.int32)
        matches = starts + self.order < length  # something follows the occurrence
        for offset in range(self.order):
            last = tokens[jnp.maximum(length - self.order + offset, 0)]
            matches &= jnp.roll(tokens, -offset) == last
        follows = jnp.where(matches, starts, -1).max() + self.order
        places = follows + jnp.arange(self.length, dtype=jnp.int32)
        found = matches.any() & (places < length)
        return tokens[jnp.where(found, places, 0)], found
