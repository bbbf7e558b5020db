"""Any drafter's trees with a looked-up chain merged in, as point masses behind the drawn nodes."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rsd_jax.core.tree import DraftTree, LawsFrom, SiblingLaw, TreeShape
from rsd_jax.core.types import NO_NODE, VerifyResult
from rsd_jax.core.warp import Warp
from rsd_jax.drafters.base import DraftContext, Drafter, ModelParams, Models
from rsd_jax.drafters.lookup import LookupDrafter
from rsd_jax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class WithLookup(Drafter):
    """Draws a tree, then adds what `LookupDrafter` proposes and the tree does not hold yet.

    As far as the proposed tokens are a path of the drawn tree, they are that path. The first token
    that is missing becomes the last child of the path's end, and the rest of the chain stands below
    that child. Whether a node gets such a child depends on the committed text, the node's prefix
    and the children drawn before, so drafting stays predictable if that of `drawn` is.

    A level holds the drawn nodes first, then the node of the chain. Where nothing is added in the
    whole batch, the target pass is as wide as without lookup.

    Attributes:
      drawn: draws the tree.
      lookup: proposes the chain.

    Raises:
      ConfigError: `drawn` draws nothing from a model.
    """

    drawn: Drafter
    lookup: LookupDrafter

    def __post_init__(self):
        if not (self.drawn.needs_draft_model or self.drawn.needs_skips):
            raise ConfigError(
                f"lookup is merged into trees that a model drafts, not into "
                f"{type(self.drawn).__name__}'s"
            )

    @functools.cached_property
    def shape(self) -> TreeShape:
        drawn, length = self.drawn.shape.widths, self.lookup.length
        levels = max(len(drawn), 1 + length)
        widths = np.zeros(levels, int)
        widths[: len(drawn)] += drawn
        widths[1 : 1 + length] += 1
        return TreeShape(tuple(widths.tolist()))

    @property
    def sibling_laws(self) -> frozenset[SiblingLaw]:
        return frozenset({SiblingLaw.MIXED})

    @property
    def words(self) -> str:
        return f"{self.drawn.words}+{self.lookup.length}"

    @property
    def needs_draft_model(self) -> bool:
        return self.drawn.needs_draft_model

    @property
    def needs_skips(self) -> bool:
        return self.drawn.needs_skips

    @property
    def draft_passes(self) -> int | None:
        return self.drawn.draft_passes

    @property
    def distinct_siblings(self) -> int:
        return self.drawn.distinct_siblings

    @property
    def max_nodes(self) -> int:
        return self.drawn.max_nodes + self.lookup.length

    @property
    def pass_widths(self) -> tuple[int, ...]:
        widths = self.drawn.pass_widths or (self.drawn.shape.num_nodes,)
        return (*widths, widths[-1] + self.lookup.length)

    def init(self, models: Models, batch: int, capacity: int) -> Any:
        return self.drawn.init(models, batch, capacity)

    def prefill(
        self, models: Models, params: ModelParams, state: Any, context: DraftContext
    ) -> Any:
        return self.drawn.prefill(models, params, state, context)

    def draft(
        self,
        models: Models,
        params: ModelParams,
        state: Any,
        context: DraftContext,
        warp: Warp,
        keys: jax.Array,
    ) -> tuple[DraftTree, Any]:
        # The model has not seen the nodes of the chain that the block before accepted.
        most = self.lookup.length
        state = self.drawn.catch_up(models, params, state, context, most)
        tree, state = self.drawn.draft(models, params, state, context, warp, keys)
        found, chain = jax.vmap(self.lookup.look_up)(context.tokens, context.length)
        return self.merge(tree, chain, found & context.active), state

    def commit(
        self,
        models: Models,
        state: Any,
        context: DraftContext,
        tree: DraftTree,
        result: VerifyResult,
    ) -> Any:
        assert isinstance(tree.laws, LawsFrom)
        drawn, depth = tree.laws.tree, self.drawn.shape.depth
        slots = jnp.asarray(self._drawn_slots)[result.path]
        is_drawn = (result.path != NO_NODE) & (slots != NO_NODE)
        num_drawn = is_drawn.sum(axis=1, dtype=jnp.int32)
        added = jnp.take_along_axis(tree.tokens, jnp.maximum(result.path, 0), axis=1)
        at = jnp.minimum(num_drawn, result.path.shape[1] - 1)[:, None]
        next_added = jnp.take_along_axis(added, at, axis=1)[:, 0]
        as_drawn = dataclasses.replace(
            result,
            num_accepted=num_drawn,
            path=jnp.where(is_drawn, slots, NO_NODE)[:, :depth],
            ranks=jnp.where(is_drawn, result.ranks, NO_NODE)[:, :depth],
            next_token=jnp.where(num_drawn < result.num_accepted, next_added, result.next_token),
        )
        return self.drawn.commit(models, state, context, drawn, as_drawn)

    @functools.cached_property
    def _chain_slots(self) -> np.ndarray:
        """i32[L]: the last slot of each level that the chain reaches."""
        return np.cumsum(self.shape.widths)[1 : 1 + self.lookup.length].astype(np.int32) - 1

    @functools.cached_property
    def _drawn_slots(self) -> np.ndarray:
        """i32[N]: of each slot, the slot in the drawn tree; `NO_NODE` for the chain's."""
        slots = np.full(self.shape.num_nodes, NO_NODE, np.int32)
        slots[self._kept_slots] = np.arange(self.drawn.shape.num_nodes)
        return slots

    @functools.cached_property
    def _kept_slots(self) -> np.ndarray:
        """i32[N of the drawn tree]: the slot of each drawn node."""
        return np.delete(np.arange(self.shape.num_nodes, dtype=np.int32), self._chain_slots)

    def _follow(self, tree: DraftTree, chain: jax.Array) -> tuple[jax.Array, jax.Array]:
        """How far one row's drawn tree holds the chain i32[L].

        Returns:
          bool[L], whether the tree holds the chain up to that token; and i32[L], for each token the
          slot, in the drawn tree, of the node before that token, as long as the tree holds it.
        """
        node, holds = jnp.asarray(0, jnp.int32), jnp.asarray(True)
        held, before = [], []
        for token in chain:
            same = (tree.parents == node) & tree.valid & (tree.tokens == token)
            before.append(node)
            holds &= same.any()
            node = jnp.where(holds, jnp.argmax(same).astype(jnp.int32), node)
            held.append(holds)
        return jnp.stack(held), jnp.stack(before)

    def merge(self, tree: DraftTree, chain: jax.Array, proposed: jax.Array) -> DraftTree:
        """The tree with the chain i32[B, L] of the rows that propose one, bool[B]."""
        kept, chain_slots = self._kept_slots, self._chain_slots
        held, before = jax.vmap(self._follow)(tree, chain)
        was_held = jnp.pad(held[:, :-1], ((0, 0), (1, 0)), constant_values=True)
        above = jnp.asarray(np.concatenate([[0], chain_slots[:-1]]).astype(np.int32))
        # An unused slot still needs a parent in the level above.
        parents = jnp.where(was_held & ~held, jnp.asarray(kept)[before], above[None])

        order = np.argsort(np.concatenate([kept, chain_slots]))

        def merged(drawn: jax.Array, of_chain: jax.Array) -> jax.Array:
            return jnp.concatenate([drawn, of_chain.astype(drawn.dtype)], axis=1)[:, order]

        parent_of_drawn = jnp.where(
            tree.parents == NO_NODE, NO_NODE, jnp.asarray(kept)[tree.parents]
        )
        drawn_laws = tree.child_laws
        if drawn_laws is None:
            drawn_laws = jnp.full(tree.tokens.shape, tree.siblings.code, jnp.int8)
        points = jnp.full(chain.shape, SiblingLaw.POINT.code, jnp.int8)
        internal = self._drawn_slots[: self.shape.num_internal]
        # Leaves of the drawn tree are internal here if the chain goes further down.
        internal = np.where(internal < tree.shape.num_internal, np.maximum(internal, 0), 0)
        return DraftTree(
            tokens=merged(tree.tokens, chain),
            parents=merged(parent_of_drawn, parents),
            valid=merged(tree.valid, proposed[:, None] & ~held),
            scores=merged(tree.scores, jnp.full(chain.shape, -jnp.inf)),
            laws=LawsFrom(
                tree=tree,
                slots=jnp.broadcast_to(jnp.asarray(internal), (len(chain), len(internal))),
            ),
            finite=tree.finite,
            shape=self.shape,
            siblings=SiblingLaw.MIXED,
            child_laws=merged(drawn_laws, points),
        )
