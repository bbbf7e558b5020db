"""Axis legend, small result types and the protocol that a language model fulfils.

Axis legend, used in every docstring of the package:

  B  batch rows            N  node slots of a draft tree (slot 0 is the root)
  I  internal node slots   D  depth of the tree (levels below the root)
  V  vocabulary            Q  query tokens of one forward pass
  S  cache capacity        M  scratch slots
  T  token buffer length   R  tokens committed at once (D + 1)
  H  key/value heads       K  head dimension; also the number of siblings, where stated
"""

import dataclasses
from typing import Any, NamedTuple, Protocol, Self

import jax
import jax.numpy as jnp
from flax import struct

from rsd_jax.core.backend import CPU, Backend
from rsd_jax.core.sharding import MeshLayout
from rsd_jax.errors import ConfigError

NO_NODE = -1
"""Padding of a path: no node was accepted at this depth."""

NEVER = -1
"""A block number that never came, e.g. the block of a failure that did not happen."""

Params = Any
"""A pytree of arrays: the parameters of a language model."""


@struct.dataclass
class Scratch:
    """Keys and values of tokens that are not committed: the nodes of a tree.

    Attributes:
      keys, values: one dtype[B, H, M, K] per layer.
    """

    keys: tuple[jax.Array, ...]
    values: tuple[jax.Array, ...]


@struct.dataclass
class KVCache:
    """Keys and values of the committed tokens, one buffer per layer so that none is copied.

    Invariant: entries at positions >= length are garbage and never attended to.

    Attributes:
      keys, values: one dtype[B, H, S, K] per layer.
      length: i32[B], number of committed positions of each row.
    """

    keys: tuple[jax.Array, ...]
    values: tuple[jax.Array, ...]
    length: jax.Array

    @property
    def capacity(self) -> int:
        return self.keys[0].shape[2]


@struct.dataclass
class VerifyResult:
    """What one verification decided.

    Attributes:
      num_accepted: i32[B], accepted nodes a; the block yields a + 1 tokens.
      path: i32[B, D], accepted nodes from the root down, padded with `NO_NODE`.
      ranks: i32[B, D], how many siblings were rejected before each accepted node; padded
        with `NO_NODE`.
      next_token: i32[B], the correction or bonus token.
      finite: bool[B], whether every target law that was read is a law (at least one
        finite logit, none NaN).
      empty_residuals: i32[B], children accepted because their residual had no mass; see
        `rsd_jax.engine.results.GenerateStats` for when this can happen.
    """

    num_accepted: jax.Array
    path: jax.Array
    ranks: jax.Array
    next_token: jax.Array
    finite: jax.Array
    empty_residuals: jax.Array


class ModelSizes(Protocol):
    """Counts of scalars, from which the cost of a pass follows; configurations fulfil it."""

    @property
    def num_parameters(self) -> int:
        """All parameters, a tied head counted once."""
        ...

    @property
    def num_parameters_read(self) -> int:
        """Parameters that one decoding step reads: all but an untied input table (a gather)."""
        ...

    @property
    def attention_parameters(self) -> int:
        """Parameters of one attention sub-layer, the norm before it included."""
        ...

    @property
    def mlp_parameters(self) -> int:
        """Parameters of one MLP sub-layer, the norm before it included."""
        ...

    @property
    def cache_numbers(self) -> int:
        """Numbers that one position has in the cache of one layer."""
        ...


class LanguageModel(Protocol):
    """A causal language model with explicit state; frozen, hashable, without arrays.

    The committed region of a cache is read-only to `forward`; only `commit` writes it. That is
    what lets XLA keep the cache in place inside a loop.

    A model whose class names this one as its base inherits everything that has a body here.
    """

    @property
    def dtype(self) -> str:
        """Name of the floating type that the model computes in, e.g. "bfloat16"."""
        return "float32"

    @property
    def backend(self) -> Backend:
        """What is chosen by the devices that the model lives on or is compiled for."""
        return CPU

    @property
    def vocab_size(self) -> int:
        """V."""
        ...

    @property
    def max_positions(self) -> int:
        """Longest sequence, in tokens."""
        ...

    @property
    def num_layers(self) -> int:
        """Layers, each of two sub-layers that `skips` can turn off."""
        ...

    @property
    def sizes(self) -> ModelSizes | None:
        """Counts of scalars; None for a model without weights. See `sizes_of`."""
        return None

    def with_max_positions(self, limit: int) -> Self:
        """The same model with another limit on positions: capacities are timed, not long texts."""
        changed: Self = dataclasses.replace(self, max_positions=limit)  # type: ignore[type-var]
        return changed

    def init_cache(self, batch: int, capacity: int) -> KVCache:
        """An empty cache for `batch` rows of `capacity` positions."""
        ...

    def init_scratch(self, batch: int, slots: int) -> Scratch:
        """Scratch for `slots` uncommitted tokens per row."""
        ...

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
        """Scores `tokens` against the committed prefix and the visible scratch slots.

        Args:
          params: the model's parameters.
          tokens: i32[B, Q].
          positions: i32[B, Q], 0-based.
          cache: read-only; every query sees the `cache.length` committed positions.
          scratch: receives the tokens' keys and values in slots [slot, slot + Q).
          slot: first scratch slot; static, or i32[] in a loop over the levels of a draft.
          mask: bool[B or 1, Q, M], the scratch slots that each query sees; must include the
            query's own slot.
          skips: bool[layers, 2] or None; sub-layers (attention, MLP) replaced by the identity.
            Traced: another set of them is the same program, and what is skipped is not read.
          logits_for: static slice of the queries whose logits are wanted; an empty one skips
            the output head.

        Returns:
          logits f32[B, Q', V] of the queries in `logits_for`, and the new scratch.
        """
        ...

    def commit(
        self,
        cache: KVCache,
        scratch: Scratch,
        slots: jax.Array,
        start: jax.Array,
        count: jax.Array,
    ) -> KVCache:
        """Copies scratch slots into the cache; the only writer of the committed region.

        Args:
          cache: donated.
          scratch: where the keys and values are.
          slots: i32[B, R], scratch slots in order.
          start: i32[B], first position to write; start + R <= S, or the write would shift.
          count: i32[B], how many of the R entries count; length becomes start + count.
        """
        ...

    def score(self, params: Params, tokens: jax.Array, skips: jax.Array | None = None) -> jax.Array:
        """Logits f32[B, Q, V] after every token of whole sequences i32[B, Q]; no state kept.

        Args:
          params: of the model.
          tokens: one sequence per row.
          skips: bool[layers, 2], sub-layers that are skipped.
        """
        batch, length = tokens.shape
        positions = jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32)[None], tokens.shape)
        causal = jnp.tril(jnp.ones((1, length, length), bool))
        cache, scratch = self.init_cache(batch, 0), self.init_scratch(batch, length)
        logits, _ = self.forward(
            params, tokens, positions, cache, scratch, slot=0, mask=causal, skips=skips
        )
        return logits


def sizes_of(model: LanguageModel) -> ModelSizes:
    """The model's counts of scalars.

    Raises:
      ConfigError: the model has none.
    """
    if (sizes := model.sizes) is None:
        raise ConfigError(
            f"a {type(model).__name__} has no sizes, so the cost of its passes cannot be measured; "
            "use a model that load_model returns, or give yours a property `sizes`"
        )
    return sizes


class Origin(NamedTuple):
    """Where weights that were named by something else than a path came from.

    Attributes:
      name: e.g. "owner/name@commit" of the Hugging Face Hub.
      sha256: of the weight files, see `files_sha256`.
    """

    name: str
    sha256: str


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """A language model with its parameters.

    Attributes:
      model: static.
      params: placed on the devices of `layout`.
      layout: the mesh it lives on, or None for one device.
      origin: for result rows; None for weights from a path or without files.
    """

    model: LanguageModel
    params: Params
    layout: MeshLayout | None = None
    origin: Origin | None = None
