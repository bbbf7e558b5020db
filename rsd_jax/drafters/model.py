"""Drafting with a draft model, which keeps its own cache."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct

from rsd_jax.core.prefill import PREFILL_CHUNK, prefill_cache
from rsd_jax.core.tree import DraftTree
from rsd_jax.core.types import KVCache, LanguageModel, Scratch, VerifyResult
from rsd_jax.core.warp import Warp
from rsd_jax.drafters.base import DraftContext, Drafter, ModelParams, Models
from rsd_jax.drafters.growth import RuleDrafter, grow_tree

# Scratch slots of the draft: the committed token before the root, then the internal nodes.
BEFORE_ROOT = 0
ROOT = 1


@struct.dataclass
class ModelDraftState:
    """State of a draft model.

    Invariant: `cache` holds max(length - 2, 0) positions. The root's pass feeds the last two
    committed tokens. The first of them may be an accepted leaf of the previous block, which the
    draft has not run; this pass gives the leaf its keys and values, with static shapes.

    Attributes:
      cache: cache of the draft model.
      scratch: for the token before the root and the internal nodes.
    """

    cache: KVCache
    scratch: Scratch


class ModelState(Drafter):
    """What drafters with a draft model have in common: its cache, and how the cache is kept."""

    @property
    def needs_draft_model(self) -> bool:
        return True

    def init(self, models: Models, batch: int, capacity: int) -> ModelDraftState:
        model = draft_model(models)
        return ModelDraftState(
            cache=model.init_cache(batch, capacity),
            scratch=model.init_scratch(batch, 1 + self.shape.num_internal),
        )

    def prefill(
        self, models: Models, params: ModelParams, state: ModelDraftState, context: DraftContext
    ) -> ModelDraftState:
        return self._take_in(models, params, state, context, PREFILL_CHUNK)

    def catch_up(
        self,
        models: Models,
        params: ModelParams,
        state: ModelDraftState,
        context: DraftContext,
        most: int,
    ) -> ModelDraftState:
        return self._take_in(models, params, state, context, most)

    def _take_in(
        self,
        models: Models,
        params: ModelParams,
        state: ModelDraftState,
        context: DraftContext,
        chunk: int,
    ) -> ModelDraftState:
        count = jnp.where(context.active, jnp.maximum(context.length - 2, 0), 0)
        model, tokens = draft_model(models), context.tokens
        cache = prefill_cache(model, params.draft, state.cache, tokens, count, chunk)
        return dataclasses.replace(state, cache=cache)

    def commit(
        self,
        models: Models,
        state: ModelDraftState,
        context: DraftContext,
        tree: DraftTree,
        result: VerifyResult,
    ) -> ModelDraftState:
        """Commits all but the deepest accepted node, which is fed again with the next root."""
        batch = context.length.shape[0]
        inner_path = jnp.maximum(result.path[:, :-1], 0) + ROOT
        fixed = jnp.broadcast_to(jnp.asarray([BEFORE_ROOT, ROOT], jnp.int32), (batch, 2))
        slots = jnp.concatenate([fixed, inner_path, fixed[:, :1]], axis=1)
        skip = (context.length == 1).astype(jnp.int32)
        order = jnp.arange(self.shape.depth + 1, dtype=jnp.int32)[None] + skip[:, None]
        slots = jnp.take_along_axis(slots, order, axis=1)
        count = jnp.where(context.active, result.num_accepted + 1 - skip, 0)
        cache = draft_model(models).commit(
            state.cache, state.scratch, slots, state.cache.length, count
        )
        return dataclasses.replace(state, cache=cache)


@dataclasses.dataclass(frozen=True)
class ModelDrafter(RuleDrafter, ModelState):
    """A draft model that grows trees by a rule; L passes for L levels."""

    def draft(
        self,
        models: Models,
        params: ModelParams,
        state: ModelDraftState,
        context: DraftContext,
        warp: Warp,
        keys: jax.Array,
    ) -> tuple[DraftTree, ModelDraftState]:
        model, shape = draft_model(models), self.shape
        n = context.length[:, None]
        root_tokens, last_two = root_inputs(context)
        sees_before = jnp.broadcast_to(n >= 2, (n.shape[0], 1))[..., None]

        def score_level(level: int, tokens: jax.Array, visible: jax.Array, scratch: Scratch):
            start, width = shape.starts[level], shape.widths[level]
            inner = visible[:, :, : shape.num_internal]
            inner = jnp.broadcast_to(inner, (n.shape[0], *inner.shape[1:]))
            before = jnp.broadcast_to(sees_before, (*inner.shape[:2], 1))
            mask = jnp.concatenate([before, inner], axis=2)
            positions = jnp.broadcast_to(n - 1 + level, (n.shape[0], width))
            if level == 0:
                itself = jnp.zeros_like(mask).at[:, :, BEFORE_ROOT].set(True)
                mask = jnp.concatenate([itself, mask], axis=1)
                return model.forward(
                    params.draft,
                    root_tokens,
                    last_two,
                    state.cache,
                    scratch,
                    slot=BEFORE_ROOT,
                    mask=mask,
                    logits_for=slice(1, None),
                )
            return model.forward(
                params.draft,
                tokens,
                positions,
                state.cache,
                scratch,
                slot=ROOT + start,
                mask=mask,
            )

        tree, scratch = grow_tree(
            self.rule,
            score_level,
            state.scratch,
            root_tokens[:, 1],
            active=context.active,
            warp=warp,
            keys=keys,
        )
        return tree, dataclasses.replace(state, scratch=scratch)


def root_inputs(context: DraftContext) -> tuple[jax.Array, jax.Array]:
    """Tokens and positions, i32[B, 2], of the root's pass: the last two committed tokens.

    A row of one token has no token before its root, so the root is fed twice; the first copy must
    never be seen nor committed.
    """
    n = context.length[:, None]
    last_two = jnp.maximum(n - 2 + jnp.arange(2, dtype=jnp.int32)[None], 0)
    return jnp.take_along_axis(context.tokens, last_two, axis=1), last_two


def draft_model(models: Models) -> LanguageModel:
    assert models.draft is not None  # checked before a method runs
    return models.draft
