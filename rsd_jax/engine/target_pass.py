"""The one target pass of a block: all slots of a tree, or only its valid nodes side by side.

A tree whose size the data decide leaves most of its slots empty. Its valid nodes are then packed in
slot order, parents before children as before, and the pass runs at the smallest of a few static
widths that holds the largest tree of the batch. Place 0 is the root.
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
    """i32[B, N]: where each valid node stands when they are packed; 0 for the first slots."""
    return jnp.maximum(jnp.cumsum(tree.valid, axis=1, dtype=jnp.int32) - 1, 0)


def _packed_slots(tree: DraftTree, width: int) -> tuple[jax.Array, jax.Array]:
    """Slots i32[B, width] of the valid nodes in order, and which places are filled, bool."""
    upto = jnp.cumsum(tree.valid, axis=1, dtype=jnp.int32)
    order = jnp.arange(width, dtype=jnp.int32)[None]
    # The i-th valid node is the first slot with i + 1 valid ones up to it.
    slots = (upto[:, None] <= order[..., None]).sum(axis=-1, dtype=jnp.int32)
    filled = order < upto[:, -1:]
    return jnp.where(filled, slots, 0), filled


def _packed_mask(tree: DraftTree, slots: jax.Array, filled: jax.Array) -> jax.Array:
    """bool[B, W, W]: filled places see their ancestors, and every place sees itself."""
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
      tree: drafted.
      length: i32[B], committed tokens n, the root included.
      cache: of n - 1 positions; read only.
      scratch: of `scratch_slots`.
      widths: ascending, the last holding every tree; None for a pass over all slots.

    Returns:
      logits f32[B, N, V] at the nodes, or, with widths, f32[B, widths[-1], V] at the places, of
      which those beyond the width of the pass are 0; and the scratch, laid out likewise.
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
