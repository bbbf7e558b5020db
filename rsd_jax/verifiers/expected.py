"""The expected number of tokens of a block, exactly, given its tree.

What a block is expected to produce is free of the noise of acceptance, so verifiers can be held
against each other on the same trees; the mean over trees is what sampling would give.
"""

import jax
import jax.numpy as jnp

from rsd_jax.core.tree import DraftTree
from rsd_jax.verifiers.base import TargetLaws, Verifier, greedy


def expected_tokens(
    verifier: Verifier,
    tree: DraftTree,
    target: TargetLaws,
    *,
    eos_ids: jax.Array | None = None,
) -> jax.Array:
    """Expected tokens of the block of each row, given its tree: f32[B]; NaN as in `stop_masses`.

    Args:
      verifier: with `stops`.
      tree: with leading B.
      target: with leading B, and the warp.
      eos_ids: i32[E], ids that end a row, padded with negative numbers; a token after one of these
        on a path does not count.

    Raises:
      ConfigError: the verifier has no `stops`.
    """
    tokens = jax.vmap(lambda row: tokens_if_stopped(row, eos_ids))(tree)
    mass = stop_masses(verifier, tree, target)
    return (mass * tokens.astype(mass.dtype)).sum(axis=1)


def stop_masses(verifier: Verifier, tree: DraftTree, target: TargetLaws) -> jax.Array:
    """The probability that each row's block stops at each node, given its tree: f32[B, N].

    At T = 0 nothing is random and the numbers are 0 or 1. NaN in the whole row if a law that the
    verifier needs is not a law.

    Args:
      verifier, tree, target: as in `expected_tokens`.

    Raises:
      ConfigError: the verifier has no `stops`.
    """
    if target.warp.greedy:
        path = greedy(tree, target).path
        last = jnp.where(path >= 0, path, 0).max(axis=1, initial=0)
        return jax.nn.one_hot(last, tree.shape.num_nodes)

    def one(row: DraftTree, logits: jax.Array, places: jax.Array | None) -> jax.Array:
        laws = TargetLaws(logits, target.warp, places, target.backend)
        stops = verifier.stops(row, laws)
        return jnp.where(stops.finite, stops.mass, jnp.nan)

    return jax.vmap(one)(tree, target.logits, target.places)


def tokens_if_stopped(tree: DraftTree, eos_ids: jax.Array | None = None) -> jax.Array:
    """i32[N]: the tokens that one row's block produces if it stops at each node.

    Those of the path from below the root and the one that ends the block, but none after an EOS.

    Args:
      tree: of one row.
      eos_ids: as in `expected_tokens`.
    """
    depths = jnp.asarray(tree.shape.depths)
    if eos_ids is None:
        return depths + 1
    is_root = depths == 0
    is_eos = (tree.tokens[:, None] == eos_ids[None]).any(axis=1) & ~is_root
    above = jnp.maximum(tree.parents, 0)
    # (tokens on the path up to the first EOS, whether there is one), one more level in each step
    count, ended = jnp.zeros_like(depths), jnp.zeros_like(is_eos)
    for _ in range(tree.shape.depth):
        count = jnp.where(is_root, 0, count[above] + (~ended[above]).astype(jnp.int32))
        ended = ~is_root & (ended[above] | is_eos)
    return count + (~ended).astype(jnp.int32)
