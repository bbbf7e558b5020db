"""The target pass of a block, over all slots of a tree or over its packed valid nodes.

A tree whose size depends on the data leaves most of its slots empty. The valid nodes of such a tree
are packed side by side in slot order, which keeps parents before children. The pass then runs at
the smallest of a few static widths that holds the largest tree of the batch. The positions of the
packed nodes in the pass are called places; place 0 is the root.
"""

import jax
import jax.numpy as jnp

from rsd_jax.core.tree import DraftTree, TreeShape, ancestor_mask
from rsd_jax.core.types import KVCache, LanguageModel, Params, Scratch

Widths = tuple[int, ...]


def scratch_slots(shape: TreeShape, widths: Widths | None) -> int:
    """Scratch slots that the target needs for a tree."""
    return shape.num_nodes if widths is None else widths[-1]


def places(tree: DraftTree) -> jax.Array:
    """i32[B, N]: the place of each valid node among the packed ones; arbitrary for other slots."""
    return jnp.maximum(jnp.cumsum(tree.valid, axis=1, dtype=jnp.int32) - 1, 0)


def _packed_slots(tree: DraftTree, width: int) -> tuple[jax.Array, jax.Array]:
    """Slots i32[B, width] of the valid nodes in order, and bool[B, width]: is the place filled."""
    upto = jnp.cumsum(tree.valid, axis=1, dtype=jnp.int32)
    order = jnp.arange(width, dtype=jnp.int32)[None]
    # The i-th valid node is the first slot with i + 1 valid ones up to it.
    slots = (upto[:, None] <= order[..., None]).sum(axis=-1, dtype=jnp.int32)
    filled = order < upto[:, -1:]
    return jnp.where(filled, slots, 0), filled


def _packed_mask(tree: DraftTree, slots: jax.Array, filled: jax.Array) -> jax.Array:
    """bool[B, W, W]: a filled place sees its ancestors, and every place sees itself."""
    ancestors = jnp.asarray(ancestor_mask(tree.shape, tree.parents))
    ancestors = jnp.broadcast_to(ancestors, (slots.shape[0], *ancestors.shape[1:]))
    rows = jnp.take_along_axis(ancestors, slots[..., None], axis=1)
    seen = jnp.take_along_axis(rows, slots[:, None], axis=2)
    return seen & filled[:, None] | jnp.eye(slots.shape[1], dtype=bool)[None]


def score_tree(
    model: LanguageModel,
    params: Params,
    tree: DraftTree,
    length: jax.Array,
    cache: KVCache,
    scratch: Scratch,
    widths: Widths | None,
) -> tuple[jax.Array, Scratch]:
    """Scores a tree against the committed prefix.

    Args:
      model: the target; static.
      params: of the model.
      tree: the drafted tree.
      length: i32[B], number n of committed tokens, the root included.
      cache: of n - 1 positions; not changed.
      scratch: with `scratch_slots` slots.
      widths: ascending; every tree fits the last one. None for a pass over all slots.

    Returns:
      without widths, logits f32[B, N, V] at the nodes; with widths, logits f32[B, widths[-1], V] at
      the places, which are 0 beyond the width of the pass. Then the scratch, with the keys and
      values of the same nodes or places.
    """
    depths = jnp.asarray(tree.shape.depths)
    if widths is None:
        positions = length[:, None] - 1 + depths[None]
        mask = jnp.asarray(ancestor_mask(tree.shape, tree.parents))
        return model.forward(params, tree.tokens, positions, cache, scratch, slot=0, mask=mask)
    slots, filled = _packed_slots(tree, widths[-1])
    tokens = jnp.take_along_axis(tree.tokens, slots, axis=1)
    positions = length[:, None] - 1 + depths[slots]
    mask = _packed_mask(tree, slots, filled)

    def at_width(width: int):
        def run(scratch: Scratch) -> tuple[jax.Array, Scratch]:
            logits, scratch = model.forward(
                params,
                tokens[:, :width],
                positions[:, :width],
                cache,
                scratch,
                slot=0,
                mask=mask[:, :width],
            )
            behind = ((0, 0), (0, widths[-1] - width), (0, 0))
            return jnp.pad(logits, behind), scratch

        return run

    nodes = tree.valid.sum(axis=1, dtype=jnp.int32).max()
    narrower = jnp.asarray(widths[:-1], jnp.int32)
    chosen = (narrower < nodes).sum(dtype=jnp.int32)
    return jax.lax.switch(chosen, [at_width(width) for width in widths], scratch)
