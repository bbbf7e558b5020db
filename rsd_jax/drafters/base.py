"""The interface of drafters, and the state that drafters see."""

import abc
from typing import Any

import jax
from flax import struct

from rsd_jax.core.tree import DraftTree, SiblingLaw, TreeShape
from rsd_jax.core.types import KVCache, LanguageModel, Params, VerifyResult
from rsd_jax.core.warp import Warp


@struct.dataclass
class Models:
    """The language models of a method; static.

    Attributes:
      target: the model whose law is sampled.
      draft: the model that proposes, or None.
    """

    target: LanguageModel = struct.field(pytree_node=False)
    draft: LanguageModel | None = struct.field(pytree_node=False, default=None)


@struct.dataclass
class ModelParams:
    """Parameters of `Models`; traced.

    Attributes:
      target, draft: parameters of the models.
      skips: bool[layers, 2], the sub-layers that the target skips while it drafts for itself, for
        drafters with `needs_skips`. One set for all rows; another set needs no new program, so the
        set may change between calls of `advance`.
    """

    target: Params
    draft: Params | None = None
    skips: jax.Array | None = None


@struct.dataclass
class DraftContext:
    """The part of the decode state that a drafter sees; read-only.

    Attributes:
      tokens: i32[B, T], prompt and committed tokens.
      length: i32[B], committed tokens n of each row, prompt included; at least 1.
      active: bool[B], rows that are still decoding; the state of all other rows must not change.
      target_cache: holds length - 1 positions.
    """

    tokens: jax.Array
    length: jax.Array
    active: jax.Array
    target_cache: KVCache


def doubling_widths(most: int) -> tuple[int, ...]:
    """`Drafter.pass_widths` 2, 3, 5, 9, ..., `most`: each holds at most twice the drafted nodes."""
    widths = [2]
    while widths[-1] < most:
        widths.append(min(most, 2 * widths[-1] - 1))
    return tuple(widths)


class Drafter(abc.ABC):
    """Proposes a tree of tokens after the committed prefix.

    Implementations are frozen, hashable dataclasses without arrays; everything that changes
    is in the state that their functions return. Drafting is lossless under recursive rejection if
    it is predictable (docs/methods.md): whether the i-th child of a node is drawn, and from
    which law, may depend on anything drawn earlier but not on the child itself; a drawn child
    is never deleted or reordered; and the tree's `laws` are the laws drawn from, bit for bit.
    """

    @property
    @abc.abstractmethod
    def shape(self) -> TreeShape:
        """Static shape of the trees."""

    @property
    @abc.abstractmethod
    def sibling_laws(self) -> frozenset[SiblingLaw]:
        """All values of `SiblingLaw` that describe how siblings are drawn."""

    @property
    def words(self) -> str:
        """The tree in words, as in the papers' tables; no two trees of a method have the same."""
        return self.shape.words

    @property
    def needs_draft_model(self) -> bool:
        """Whether `Models.draft` must be given."""
        return False

    @property
    def needs_skips(self) -> bool:
        """Whether the drafter drafts with the target, so that `ModelParams.skips` must be given."""
        return False

    @property
    def draft_passes(self) -> int | None:
        """Passes of the draft in a block; None if their number depends on the data."""
        return self.shape.depth if self.needs_draft_model or self.needs_skips else 0

    def passes_of(self, depth: jax.Array) -> jax.Array:
        """Draft passes of blocks whose trees have these depths, i32[B]; for `DecodeStats.drafted`.

        By default one pass per level. Each row counts as if decoded alone.
        """
        return depth

    @property
    def distinct_siblings(self) -> int:
        """Least size of a vocabulary, so that the children of a node can be distinct if needed."""
        return 1 if SiblingLaw.IID in self.sibling_laws else self.shape.max_siblings

    @property
    def max_nodes(self) -> int:
        """Most valid nodes of a tree, the root included."""
        return self.shape.num_nodes

    @property
    def pass_widths(self) -> tuple[int, ...] | None:
        """Static widths of the target pass, ascending, for trees whose size depends on the data.

        Every tree fits the last width. None: the pass scores all slots.
        """
        return None

    @abc.abstractmethod
    def init(self, models: Models, batch: int, capacity: int) -> Any:
        """The drafter's own state for a batch: a pytree with leading axis B, or ()."""

    def prefill(
        self, models: Models, params: ModelParams, state: Any, context: DraftContext
    ) -> Any:
        """Takes in the prompts; called once, before the first block."""
        return state

    def catch_up(
        self, models: Models, params: ModelParams, state: Any, context: DraftContext, most: int
    ) -> Any:
        """Takes in committed tokens that the state lacks, at most `most` of each row.

        These are the last ones, accepted nodes of a tree that this drafter did not draw:
        `commit` was told of the others. By default there is nothing to take in, as for drafters
        that keep no cache.
        """
        return state

    @abc.abstractmethod
    def draft(
        self,
        models: Models,
        params: ModelParams,
        state: Any,
        context: DraftContext,
        warp: Warp,
        keys: jax.Array,
    ) -> tuple[DraftTree, Any]:
        """Draws a tree for every row.

        Args:
          models: static.
          params: parameters of the models.
          state: the drafter's own state.
          context: the committed tokens.
          warp: turns draft logits into the law to draw from. With `warp.greedy` nothing is
            drawn: the most likely tokens are taken.
          keys: key[B], new in every block; to be used with `Purpose.DRAFT` only.
        """

    def commit(
        self,
        models: Models,
        state: Any,
        context: DraftContext,
        tree: DraftTree,
        result: VerifyResult,
    ) -> Any:
        """The state after verification; `context` is the same as for `draft`."""
        return state
