"""Faults of masks, positions and caches, each a wrapper around a correct model or drafter.

Target mutants bias the output; draft mutants only lose acceptance. For every mutant, the checks of
`state_checks` that its entry names must fail.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from rsd_jax.core.tree import DraftTree, TreeShape
from rsd_jax.core.types import KVCache, LanguageModel, Params, Scratch, VerifyResult
from rsd_jax.core.warp import Warp
from rsd_jax.drafters.base import DraftContext, ModelParams, Models
from rsd_jax.drafters.model import ModelDrafter, ModelDraftState
from rsd_jax.engine.phases import Engine
from rsd_jax.engine.state import DecodeState

_NO_LOGITS = slice(0, 0)


@dataclasses.dataclass(frozen=True)
class Wrapped:
    """A `LanguageModel` that forwards everything to `inner`; a mutant overrides one method.

    Prefill passes, which need no logits, are not changed.

    Attributes:
      inner: the correct model.
      tree: shape of the trees.
    """

    inner: LanguageModel
    tree: TreeShape

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def forward(
        self,
        params: Params,
        tokens: jax.Array,
        positions: jax.Array,
        cache: KVCache,
        scratch: Scratch,
        *,
        slot: int,
        mask: jax.Array,
        **options: Any,
    ) -> tuple[jax.Array, Scratch]:
        tree_pass = options.get("logits_for") != _NO_LOGITS
        if tree_pass:
            positions, mask, cache = self.see(positions, mask, cache, slot)
        logits, scratch = self.inner.forward(
            params, tokens, positions, cache, scratch, slot=slot, mask=mask, **options
        )
        return self.read(logits) if tree_pass else logits, scratch

    def see(
        self, positions: jax.Array, mask: jax.Array, cache: KVCache, slot: int
    ) -> tuple[jax.Array, jax.Array, KVCache]:
        """What a pass is given."""
        return positions, mask, cache

    def read(self, logits: jax.Array) -> jax.Array:
        """What is made of its logits."""
        return logits

    def commit(
        self,
        cache: KVCache,
        scratch: Scratch,
        slots: jax.Array,
        start: jax.Array,
        count: jax.Array,
    ) -> KVCache:
        return self.inner.commit(cache, scratch, slots, start, count)


class _Siblings(Wrapped):
    def see(self, positions, mask, cache, slot):
        return positions, mask | (_same_level(self.tree) & _same_ancestors(mask)), cache


class _Cousins(Wrapped):
    def see(self, positions, mask, cache, slot):
        return positions, mask | (_same_level(self.tree) & ~_same_ancestors(mask)), cache


def _same_level(tree: TreeShape) -> np.ndarray:
    return (tree.depths[:, None] == tree.depths[None])[None]


def _same_ancestors(mask: jax.Array) -> jax.Array:
    strict = mask & ~np.eye(mask.shape[-1], dtype=bool)[None]
    return (strict[:, :, None] == strict[:, None]).all(-1)


class _NoParent(Wrapped):
    """Nodes of depth 2 do not see their parents."""

    def see(self, positions, mask, cache, slot):
        hidden = (self.tree.depths[:, None] == 2) & (self.tree.depths[None] == 1)
        return positions, mask & ~hidden[None], cache


class _NoSelf(Wrapped):
    """Nodes do not see themselves, except the root, which would otherwise see nothing."""

    def see(self, positions, mask, cache, slot):
        hidden = np.eye(self.tree.num_nodes, dtype=bool)
        hidden[0, 0] = False
        return positions, mask & ~hidden[None], cache


class _FlatPositions(Wrapped):
    def see(self, positions, mask, cache, slot):
        slots = jnp.arange(self.tree.num_nodes, dtype=jnp.int32)
        return positions[:, :1] + slots[None], mask, cache


class _LatePositions(Wrapped):
    def see(self, positions, mask, cache, slot):
        return positions + 1, mask, cache


class _ReadAtChild(Wrapped):
    def read(self, logits):
        depths = self.tree.depths.tolist()
        child = [
            depths.index(depth + 1) if depth < self.tree.depth else slot
            for slot, depth in enumerate(depths)
        ]
        return logits[:, jnp.asarray(child, jnp.int32)]


class _CommitFirst(Wrapped):
    def commit(self, cache, scratch, slots, start, count):
        first = jnp.arange(slots.shape[1], dtype=slots.dtype)[None]
        slots = jnp.broadcast_to(first, slots.shape)
        return self.inner.commit(cache, scratch, slots, start, count)


class _CommitOtherRow(Wrapped):
    def commit(self, cache, scratch, slots, start, count):
        return self.inner.commit(cache, scratch, jnp.roll(slots, 1, axis=0), start, count)


class _ShortLength(Wrapped):
    def see(self, positions, mask, cache, slot):
        return positions, mask, dataclasses.replace(cache, length=jnp.maximum(cache.length - 1, 0))


class _LongLength(Wrapped):
    def see(self, positions, mask, cache, slot):
        return positions, mask, dataclasses.replace(cache, length=cache.length + 1)


class _PadsCommitted(Wrapped):
    def commit(self, cache, scratch, slots, start, count):
        count = jnp.broadcast_to(count.max(), count.shape)
        return self.inner.commit(cache, scratch, slots, start, count)


class _StaleScratch(Wrapped):
    """The last block's entries stay in a second half of the scratch, where nodes see them."""

    def forward(self, params, tokens, positions, cache, scratch, *, slot, mask, **options):
        half = mask.shape[-1]

        def age(buffers: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            return tuple(b.at[:, :, half:].set(b[:, :, :half]) for b in buffers)

        aged = Scratch(keys=age(scratch.keys), values=age(scratch.values))
        seen = jnp.concatenate([mask, mask], axis=-1)
        return self.inner.forward(
            params, tokens, positions, cache, aged, slot=slot, mask=seen, **options
        )


class _DraftModeKept(Wrapped):
    """The cache gets keys and values of a pass that skips a sub-layer, as a draft does."""

    def forward(self, params, tokens, positions, cache, scratch, *, slot, mask, **options):
        given = (params, tokens, positions, cache, scratch)
        logits, _ = self.inner.forward(*given, slot=slot, mask=mask, **options)
        skips = np.zeros((self.inner.num_layers, 2), bool)
        skips[0, 1] = True  # what comes after the first MLP has other keys and values
        options = options | {"skips": jnp.asarray(skips)}
        return logits, self.inner.forward(*given, slot=slot, mask=mask, **options)[1]


def _double_scratch(state: DecodeState) -> DecodeState:
    def double(buffers: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        return tuple(jnp.concatenate([b, b], axis=2) for b in buffers)

    scratch = state.target_scratch
    doubled = Scratch(keys=double(scratch.keys), values=double(scratch.values))
    return dataclasses.replace(state, target_scratch=doubled)


def _cut_cache(state: DecodeState) -> DecodeState:
    """Leaves the longest row four positions, with no room for the width of a write."""
    end, cache = int(state.length.max()) + 4, state.target_cache
    keys, values = (tuple(b[:, :, :end] for b in bs) for bs in (cache.keys, cache.values))
    return dataclasses.replace(
        state, target_cache=dataclasses.replace(cache, keys=keys, values=values)
    )


# A draft's scratch: slot 0 is the token before the root, slot 1 the root, then the inner nodes.
# It scores the root in a pass that starts at slot 0, every level below in one of its own.


class _DraftLevelVisible(Wrapped):
    def see(self, positions, mask, cache, slot):
        level = slice(slot, slot + positions.shape[1])
        return positions, mask.at[:, :, level].set(True) if slot else mask, cache


class _DraftNoRoot(Wrapped):
    def see(self, positions, mask, cache, slot):
        return positions, mask.at[:, :, 1].set(False) if slot else mask, cache


class _DraftLatePositions(Wrapped):
    def see(self, positions, mask, cache, slot):
        return positions + 1 if slot else positions, mask, cache


class _StoredTwice(Wrapped):
    def commit(self, cache, scratch, slots, start, count):
        slots = jnp.concatenate([slots[:, :1], slots], axis=1)
        count = count + (count > 0).astype(count.dtype)
        return self.inner.commit(cache, scratch, slots, start, count)


@struct.dataclass
class _LeafState:
    inner: ModelDraftState
    leaf: jax.Array  # bool[B], whether the last block was accepted to a leaf


class _Blind:
    """A draft model that does not see the token before the root in rows where `rows`."""

    def __init__(self, inner: LanguageModel, rows: jax.Array):
        self._inner, self._rows = inner, rows

    def forward(self, *args: Any, slot: int, mask: jax.Array, **options: Any):
        queries = jnp.arange(mask.shape[1], dtype=jnp.int32) + slot
        hidden = self._rows[:, None] & (queries > 0)[None]
        mask = mask.at[:, :, 0].set(mask[:, :, 0] & ~hidden)
        return self._inner.forward(*args, slot=slot, mask=mask, **options)


class LeafMissing(ModelDrafter):
    """A leaf that a block accepts has no keys and values in the next block."""

    def draft(
        self,
        models: Models,
        params: ModelParams,
        state: Any,
        context: DraftContext,
        warp: Warp,
        keys: jax.Array,
    ) -> tuple[DraftTree, Any]:
        assert models.draft is not None
        blind: Any = _Blind(models.draft, state.leaf)
        tree, inner = super().draft(
            dataclasses.replace(models, draft=blind), params, state.inner, context, warp, keys
        )
        return tree, dataclasses.replace(state, inner=inner)

    def commit(
        self,
        models: Models,
        state: Any,
        context: DraftContext,
        tree: DraftTree,
        result: VerifyResult,
    ) -> Any:
        inner = super().commit(models, state.inner, context, tree, result)
        return _LeafState(inner=inner, leaf=result.num_accepted == self.shape.depth)


def _flag_leaves(state: DecodeState) -> DecodeState:
    leaf = jnp.zeros_like(state.done)
    return dataclasses.replace(state, drafter=_LeafState(inner=state.drafter, leaf=leaf))


def _same(state: DecodeState) -> DecodeState:
    return state


@dataclasses.dataclass(frozen=True)
class StateMutant:
    """A fault and the place where it is injected.

    Attributes:
      phases: phases with the faulty part: "prefill", "draft", "score", "commit".
      caught_by: checks that must fail: "logits", "cache", "laws", "self-pair".
      target, draft: the wrapper around that model, or None.
      drafter: class to use instead of the drafter's own, or None.
      prepare: changes the state after prefill.
    """

    phases: tuple[str, ...]
    caught_by: tuple[str, ...]
    target: Callable[[LanguageModel, TreeShape], Any] | None = None
    draft: Callable[[LanguageModel, TreeShape], Any] | None = None
    drafter: type[ModelDrafter] | None = None
    prepare: Callable[[DecodeState], DecodeState] = _same

    def inject(self, engine: Engine) -> Engine:
        """The engine with the faulty part."""
        models, drafter = engine.models, engine.drafter
        if self.target is not None:
            models = dataclasses.replace(models, target=self.target(models.target, drafter.shape))
        if self.draft is not None:
            assert models.draft is not None
            models = dataclasses.replace(models, draft=self.draft(models.draft, drafter.shape))
        if self.drafter is not None:
            assert isinstance(drafter, ModelDrafter)
            drafter = self.drafter(drafter.rule)
        return dataclasses.replace(engine, models=models, drafter=drafter)


def _target(phase: str, wrapper: Any, *caught_by: str, **more: Any) -> StateMutant:
    return StateMutant((phase,), caught_by, target=wrapper, **more)


def _draft(phase: str, wrapper: Any) -> StateMutant:
    return StateMutant((phase,), ("laws", "self-pair"), draft=wrapper)


TARGET_MUTANTS: dict[str, StateMutant] = {
    "sibling visible": _target("score", _Siblings, "logits"),
    "cousin visible": _target("score", _Cousins, "logits"),
    "ancestor hidden": _target("score", _NoParent, "logits"),
    "self hidden": _target("score", _NoSelf, "logits"),
    "position is the flattened index": _target("score", _FlatPositions, "logits"),
    "position off by one": _target("score", _LatePositions, "logits"),
    "p read at the child": _target("score", _ReadAtChild, "logits"),
    "first slots committed, not the path": _target("commit", _CommitFirst, "logits", "cache"),
    "another row's path committed": _target("commit", _CommitOtherRow, "logits", "cache"),
    "stale scratch visible": _target("score", _StaleScratch, "logits", prepare=_double_scratch),
    "draft-mode keys and values committed": _target("score", _DraftModeKept, "logits", "cache"),
    "length one short": _target("score", _ShortLength, "logits"),
    "length one long": _target("score", _LongLength, "logits"),
    "pad tokens visible": _target("prefill", _PadsCommitted, "logits", "cache"),
    "write at the end shifted": StateMutant((), ("logits", "cache"), prepare=_cut_cache),
}

DRAFT_MUTANTS: dict[str, StateMutant] = {
    "leaf missing in the next block": StateMutant(
        ("draft", "commit"), ("laws", "self-pair"), drafter=LeafMissing, prepare=_flag_leaves
    ),
    "token fed again stored twice": _draft("commit", _StoredTwice),
    "siblings and cousins visible": _draft("draft", _DraftLevelVisible),
    "root hidden": _draft("draft", _DraftNoRoot),
    "position off by one": _draft("draft", _DraftLatePositions),
    "first slots committed, not the path": _draft("commit", _CommitFirst),
    "another row's path committed": _draft("commit", _CommitOtherRow),
}
