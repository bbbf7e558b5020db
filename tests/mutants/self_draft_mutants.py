"""Faults of masks, slots and skips of a layer-skipping draft; they only lose acceptance."""

import jax.numpy as jnp

from tests.mutants.state_mutants import DRAFT_MUTANTS, StateMutant, Wrapped

# In the scratch the root is in slot 0; of a chain, the token of a step is in the slot of that
# number; of a tree, a level is in the slots from shape.starts[level] on.


class _NoRoot(Wrapped):
    def see(self, positions, mask, cache, slot):
        slots = jnp.arange(mask.shape[-1], dtype=jnp.int32)
        return positions, mask & ~((slots == 0) & (slot > 0))[None, None], cache


class _LatePositions(Wrapped):
    def see(self, positions, mask, cache, slot):
        return positions + jnp.asarray(slot > 0, positions.dtype), mask, cache


class _NoPrefix(Wrapped):
    """The last committed position before the root is not seen."""

    def see(self, positions, mask, cache, slot):
        return positions, mask, cache.replace(length=jnp.maximum(cache.length - 1, 0))


class _OneSlot(Wrapped):
    """Every token, or level, overwrites the keys and values of the root."""

    def forward(self, params, tokens, positions, cache, scratch, *, slot, mask, **options):
        return self.inner.forward(
            params, tokens, positions, cache, scratch, slot=0, mask=mask, **options
        )


class _EarlySlots(Wrapped):
    """Every level overwrites the last node of the level above."""

    def forward(self, params, tokens, positions, cache, scratch, *, slot, mask, **options):
        return self.inner.forward(
            params, tokens, positions, cache, scratch, slot=max(slot - 1, 0), mask=mask, **options
        )


class _WholeModel(Wrapped):
    """Nothing is skipped: lossless, and every token is accepted, at the target's cost."""

    def forward(self, params, tokens, positions, cache, scratch, *, slot, mask, **options):
        options = options | {"skips": None}
        return self.inner.forward(
            params, tokens, positions, cache, scratch, slot=slot, mask=mask, **options
        )


def _both(wrapper: type[Wrapped]) -> StateMutant:
    return StateMutant(("draft",), ("laws", "self-pair"), target=wrapper)


SELF_DRAFT_MUTANTS: dict[str, StateMutant] = {
    "root hidden": _both(_NoRoot),
    "position off by one": _both(_LatePositions),
    "length one short": _both(_NoPrefix),
    "one slot for all": _both(_OneSlot),
    "nothing skipped": StateMutant(("draft",), ("laws",), target=_WholeModel),
}
"""Of chains and trees alike."""

_SIBLINGS = DRAFT_MUTANTS["siblings and cousins visible"].draft

SELF_TREE_MUTANTS: dict[str, StateMutant] = SELF_DRAFT_MUTANTS | {
    "siblings and cousins visible": StateMutant(
        ("draft",), ("laws", "self-pair"), target=_SIBLINGS
    ),
    "a level begins one slot early": _both(_EarlySlots),
}
"""Of trees that grow level by level."""
