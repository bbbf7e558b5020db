"""Faults in what a layer-skipping draft sees along its chain; they only lose acceptance."""

import jax.numpy as jnp

from rsd_jax.testing.state_mutants import StateMutant, Wrapped

# The chain's token of a step stands in the scratch slot of that number, the root in slot 0.


class _NoRoot(Wrapped):
    def see(self, positions, mask, cache, slot):
        slots = jnp.arange(mask.shape[-1], dtype=jnp.int32)
        return positions, mask & ~((slots == 0) & (slot > 0))[None, None], cache


class _LatePositions(Wrapped):
    def see(self, positions, mask, cache, slot):
        return positions + (slot > 0).astype(positions.dtype), mask, cache


class _NoPrefix(Wrapped):
    """The last committed position before the root is not seen."""

    def see(self, positions, mask, cache, slot):
        return positions, mask, cache.replace(length=jnp.maximum(cache.length - 1, 0))


class _OneSlot(Wrapped):
    """Every token overwrites the keys and values of the root."""

    def forward(self, params, tokens, positions, cache, scratch, *, slot, mask, **options):
        return self.inner.forward(
            params, tokens, positions, cache, scratch, slot=0, mask=mask, **options
        )


SELF_DRAFT_MUTANTS: dict[str, StateMutant] = {
    name: StateMutant(("draft",), ("laws", "self-pair"), target=wrapper)
    for name, wrapper in {
        "root hidden": _NoRoot,
        "position off by one": _LatePositions,
        "length one short": _NoPrefix,
        "one slot for all": _OneSlot,
    }.items()
}
