"""Autoregressive decoding in the same engine, without a draft."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from rsd_jax.core.tree import DraftTree, PointLaws, SiblingLaw, TreeShape
from rsd_jax.core.types import NO_NODE
from rsd_jax.core.warp import Warp
from rsd_jax.drafters.base import DraftContext, Drafter, ModelParams, Models


@dataclasses.dataclass(frozen=True)
class NoDraft(Drafter):
    """Trees that are only a root; a block yields one token of the target."""

    @property
    def shape(self) -> TreeShape:
        return TreeShape.from_branching(())

    @property
    def sibling_laws(self) -> frozenset[SiblingLaw]:
        return frozenset(SiblingLaw)  # nothing is drawn, so all descriptions fit

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
        batch = context.length.shape[0]
        root = jnp.take_along_axis(context.tokens, context.length[:, None] - 1, axis=1)
        tree = DraftTree(
            tokens=root,
            parents=jnp.full((batch, 1), NO_NODE, jnp.int32),
            valid=jnp.ones((batch, 1), bool),
            scores=jnp.zeros((batch, 1), jnp.float32),
            laws=PointLaws(proposals=root, vocab_size=models.target.vocab_size),
            finite=jnp.ones((batch,), bool),
            shape=self.shape,
            siblings=SiblingLaw.IID,
        )
        return tree, state
