"""Drafting without a model: what followed the last tokens when they last occurred.

Source: prompt lookup decoding (Saxena 2023). The tokens are proposed with certainty.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from rsd_jax.core.sampling import argmax
from rsd_jax.core.tree import MOST_NODES, DraftTree, PointLaws, SiblingLaw, TreeShape
from rsd_jax.core.warp import Warp
from rsd_jax.drafters.base import DraftContext, Drafter, ModelParams, Models
from rsd_jax.errors import ConfigError, positive_integer


@dataclasses.dataclass(frozen=True)
class LookupDrafter(Drafter):
    """Proposes the continuation of the longest earlier occurrence of the last tokens.

    Of two occurrences of equal length the later one counts. Where the text ends before the chain
    does, the chain goes on with its own tokens, so that a text that repeats itself is proposed at
    full length. Without an occurrence nothing is proposed, and the block is one of autoregressive
    decoding. A proposal depends on committed tokens alone, so drafting is predictable.

    Attributes:
      length: L, tokens of the chain.
      longest: most tokens that are looked for.
      shortest: fewest tokens that have to occur again.

    Raises:
      ConfigError: a value is no positive integer, or `shortest` is above `longest`.
    """

    length: int
    longest: int = 8
    shortest: int = 2

    def __post_init__(self):
        for name, most in (("length", MOST_NODES), ("longest", 64), ("shortest", 64)):
            value = positive_integer(name, getattr(self, name), most=most)
            object.__setattr__(self, name, value)
        if self.shortest > self.longest:
            raise ConfigError(
                f"shortest={self.shortest} is above longest={self.longest}: no occurrence would be "
                "long enough"
            )

    @property
    def shape(self) -> TreeShape:
        return TreeShape.from_branching((1,) * self.length)

    @property
    def sibling_laws(self) -> frozenset[SiblingLaw]:
        return frozenset({SiblingLaw.SINGLE, SiblingLaw.POINT})

    @property
    def pass_widths(self) -> tuple[int, ...]:
        """Without any proposal in the batch the target pass is as narrow as without drafting."""
        return (1, 1 + self.length)

    def init(self, models: Models, batch: int, capacity: int) -> tuple[()]:
        return ()

    def draft(
        self,
        models: Models,
        params: ModelParams,
        state: Any,
        context: DraftContext,
        warp: Warp,
        keys: jax.Array,
    ) -> tuple[DraftTree, Any]:
        found, proposals = jax.vmap(self.look_up)(context.tokens, context.length)
        batch, shape = context.length.shape[0], self.shape
        root = jnp.take_along_axis(context.tokens, context.length[:, None] - 1, axis=1)
        parents = jnp.asarray(shape.static_parents)[None]
        drafted = jnp.broadcast_to((found & context.active)[:, None], proposals.shape)
        tree = DraftTree(
            tokens=jnp.concatenate([root, proposals], axis=1),
            parents=jnp.broadcast_to(parents, (batch, shape.num_nodes)),
            valid=jnp.concatenate([jnp.ones((batch, 1), bool), drafted], axis=1),
            scores=jnp.zeros((batch, shape.num_nodes), jnp.float32),
            laws=PointLaws(proposals=proposals, vocab_size=models.target.vocab_size),
            finite=jnp.ones((batch,), bool),
            shape=shape,
            siblings=SiblingLaw.POINT,
        )
        return tree, state

    def look_up(self, tokens: jax.Array, length: jax.Array) -> tuple[jax.Array, jax.Array]:
        """For one row: whether the last tokens occurred before, bool[], and what followed, i32[L].

        Args:
          tokens: i32[T]; those from `length` on are not read.
          length: i32[].
        """
        places = jnp.arange(tokens.shape[0], dtype=jnp.int32)
        last = length - 1
        same = places < last  # at least one token follows
        shared = jnp.zeros_like(tokens)  # tokens before and at each place as at the end
        for back in range(self.longest):
            equal = jnp.roll(tokens, back) == tokens[jnp.maximum(last - back, 0)]
            same &= equal & (places >= back)
            shared += same.astype(jnp.int32)
        # The place of the most shared tokens, of these the latest.
        best = argmax(shared * tokens.shape[0] + places)
        period = last - best
        follow = best + 1 + jnp.arange(self.length, dtype=jnp.int32) % jnp.maximum(period, 1)
        return shared[best] >= self.shortest, tokens[jnp.minimum(follow, last)]
