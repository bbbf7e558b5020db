"""Times verification alone, by every verifier that is lossless for the method's drafts."""

import dataclasses
import functools
import statistics
from typing import Any

import jax
import jax.numpy as jnp

from rsd_jax.core.sampling import block_keys, row_keys
from rsd_jax.core.tree import DraftTree
from rsd_jax.core.warp import Warp
from rsd_jax.drafters.growth import grow_tree
from rsd_jax.drafters.model import ModelDrafter
from rsd_jax.engine.methods import Method, lossless_verifiers
from rsd_jax.evaluation.stopwatch import timed, turn_order
from rsd_jax.verifiers import NodeVerifier
from rsd_jax.verifiers.base import TargetLaws, Verifier

_DRAFT_SPREAD = 4.0  # standard deviation of the draft's logits: a few tokens are likely
_TARGET_OFFSET = 0.5  # of target minus draft logits: most drafted tokens are accepted
_BLOCKS = 10  # verified per timed call


def _trees(method: Method, vocab_size: int, batch: int, warp: Warp) -> tuple[DraftTree, jax.Array]:
    """Trees drawn from a random law that is the same at every node, and target logits."""
    drafter = method.drafter
    assert isinstance(drafter, ModelDrafter)
    near, far = jax.random.split(jax.random.key(0))
    draft_logits = _DRAFT_SPREAD * jax.random.normal(near, (batch, 1, vocab_size))
    shape = (batch, drafter.shape.num_nodes, vocab_size)
    target_logits = draft_logits + _TARGET_OFFSET * jax.random.normal(far, shape)

    def score_level(level: int, tokens: jax.Array, visible: jax.Array, carry: Any):
        return jnp.broadcast_to(draft_logits, (*tokens.shape, vocab_size)), carry

    root, keys = jnp.zeros((batch,), jnp.int32), row_keys(0, jnp.arange(batch))
    tree, _ = grow_tree(drafter.rule, score_level, (), root, warp=warp, keys=keys)
    return tree, target_logits


@functools.partial(jax.jit, static_argnames=("verifier",))
def _verify_blocks(
    verifier: Verifier, tree: DraftTree, logits: jax.Array, warp: Warp, rows: jax.Array
) -> jax.Array:
    """i32[B], sums of the emitted tokens, so that the compiler drops no computation."""

    def one(block: jax.Array, total: jax.Array) -> jax.Array:
        keys = block_keys(rows, jnp.broadcast_to(block, total.shape))
        # Logits depend on the previous block; otherwise the compiler would warp them only once.
        shifted = logits + (total < 0).astype(logits.dtype)[:, None, None]
        result = verifier.verify(tree, TargetLaws(logits=shifted, warp=warp), keys)
        return total + result.next_token

    return jax.lax.fori_loop(0, _BLOCKS, one, jnp.zeros(tree.tokens.shape[:1], jnp.int32))


def ways_to_verify(method: Method) -> dict[str, Verifier]:
    """Every verifier that is lossless for a method's drafts, by name.

    A `NodeVerifier` stands twice: with the reached nodes tested one after the other, and with all
    nodes tested at once ("..., all").
    """
    ways: dict[str, Verifier] = {}
    for name, verifier in lossless_verifiers(method).items():
        if isinstance(verifier, NodeVerifier):
            ways[name] = dataclasses.replace(verifier, all_nodes=False)
            ways[f"{name}, all"] = dataclasses.replace(verifier, all_nodes=True)
        else:
            ways[name] = verifier
    return ways


def time_verification(
    method: Method,
    warp: Warp,
    *,
    vocab_size: int,
    batch: int,
    repeats: int = 11,
) -> dict[str, float]:
    """Median seconds per block of each way to verify, timed in turns.

    Args:
      warp: of draft and target.
      method: with a draft model.
      vocab_size: V, of random laws.
      batch: rows.
      repeats: timed calls of each.
    """
    tree, logits = jax.jit(_trees, static_argnums=(0, 1, 2))(method, vocab_size, batch, warp)
    rows = row_keys(0, jnp.arange(batch))
    ways = ways_to_verify(method)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for chosen in turn_order(len(ways), turn):
            name = list(ways)[chosen]
            taken = timed(_verify_blocks, ways[name], tree, logits, warp, rows)[1]
            if turn:  # the first call compiles
                seconds[name].append(taken / _BLOCKS)
    return {name: statistics.median(each) for name, each in seconds.items()}
