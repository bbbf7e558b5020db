"""Drafts whose table of tokens is not that of their target.

Tables of one tokenizer are often padded to different sizes: the shared ids are those of the smaller
table. Of two tokenizers, the shared tokens are those of equal text. The draft's law q is restricted
to the shared tokens before anything is drawn, so verification is unchanged and stays lossless.
"""

import dataclasses

import jax
import jax.numpy as jnp

from rsd_jax.core.backend import Backend
from rsd_jax.core.types import KVCache, LanguageModel, ModelSizes, Params, Scratch

STAND_IN = 0
"""The id that a draft is fed for a token that its table lacks; `<unk>` for Llama's tokenizers."""


@dataclasses.dataclass(frozen=True)
class OnSharedTokens(LanguageModel):
    """A draft model with the token ids of its target.

    A token that the target lacks has probability 0. A token that the draft lacks has probability 0
    too, and the draft is fed `STAND_IN` where the text holds such a token: its next laws are then
    worse guesses, of which fewer tokens are accepted.

    Attributes:
      model: the draft.
      target_size: V of the target, and of this model.
    """

    model: LanguageModel
    target_size: int

    @property
    def vocab_size(self) -> int:
        return self.target_size

    @property
    def dtype(self) -> str:
        return self.model.dtype

    @property
    def backend(self) -> Backend:
        return self.model.backend

    @property
    def max_positions(self) -> int:
        return self.model.max_positions

    @property
    def num_layers(self) -> int:
        return self.model.num_layers

    @property
    def sizes(self) -> ModelSizes | None:
        return self.model.sizes

    def with_max_positions(self, limit: int) -> "OnSharedTokens":
        return dataclasses.replace(self, model=self.model.with_max_positions(limit))

    def init_cache(self, batch: int, capacity: int) -> KVCache:
        return self.model.init_cache(batch, capacity)

    def init_scratch(self, batch: int, slots: int) -> Scratch:
        return self.model.init_scratch(batch, slots)

    def forward(
        self,
        params: Params,
        tokens: jax.Array,
        positions: jax.Array,
        cache: KVCache,
        scratch: Scratch,
        *,
        slot: int | jax.Array,
        mask: jax.Array,
        skips: jax.Array | None = None,
        logits_for: slice = slice(None),
    ) -> tuple[jax.Array, Scratch]:
        logits, scratch = self.model.forward(
            self._own(params),
            self._fed(params, tokens),
            positions,
            cache,
            scratch,
            slot=slot,
            mask=mask,
            skips=skips,
            logits_for=logits_for,
        )
        return self._shared(params, logits), scratch

    def _own(self, params: Params) -> Params:
        """The parameters of the draft itself."""
        return params

    def _fed(self, params: Params, tokens: jax.Array) -> jax.Array:
        """The draft's ids of the target's tokens."""
        return jnp.where(tokens < self.model.vocab_size, tokens, STAND_IN)

    def _shared(self, params: Params, logits: jax.Array) -> jax.Array:
        """The draft's logits at the target's ids, -inf at those that the draft lacks."""
        lacking = max(self.vocab_size - self.model.vocab_size, 0)
        none = ((0, 0),) * (logits.ndim - 1)
        shared = logits[..., : self.vocab_size]
        return jnp.pad(shared, (*none, (0, lacking)), constant_values=-jnp.inf)

    def commit(
        self,
        cache: KVCache,
        scratch: Scratch,
        slots: jax.Array,
        start: jax.Array,
        count: jax.Array,
    ) -> KVCache:
        return self.model.commit(cache, scratch, slots, start, count)


@dataclasses.dataclass(frozen=True)
class OnMappedTokens(OnSharedTokens):
    """A draft model with other ids than its target: another tokenizer, or only some of the tokens.

    The parameters are `{"model": those of the draft, "draft_ids": i32[V]}`: for each id of the
    target the draft's id of the same token, -1 for a token that the draft lacks. On a mesh that
    splits the vocabulary, the draft's logits are gathered in every pass.
    """

    def _own(self, params: Params) -> Params:
        return params["model"]

    def _fed(self, params: Params, tokens: jax.Array) -> jax.Array:
        ids = params["draft_ids"][tokens]
        return jnp.where(ids >= 0, ids, STAND_IN)

    def _shared(self, params: Params, logits: jax.Array) -> jax.Array:
        ids = params["draft_ids"]
        own = jnp.take(logits, ids, axis=-1, mode="clip")
        return jnp.where(jnp.broadcast_to(ids >= 0, own.shape), own, -jnp.inf)


def on_shared_tokens(draft: LanguageModel, vocab_size: int) -> LanguageModel:
    """The draft for a target with `vocab_size` tokens; the draft itself if it has as many."""
    return draft if draft.vocab_size == vocab_size else OnSharedTokens(draft, vocab_size)
