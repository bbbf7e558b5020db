"""The state of a batch that is being decoded, and its counts."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from rsd_jax.core.tree import TreeShape
from rsd_jax.core.types import NEVER, KVCache, Scratch
from rsd_jax.drafters.base import DraftContext


@struct.dataclass
class Prompts:
    """What rows are asked for; numpy arrays on the host, traced in programs.

    Attributes:
      tokens: i32[B, T], prompts from the left; T is also the capacity of the caches.
      length: i32[B]; 0: no prompt.
      max_new_tokens: i32[B].
      request_ids: i32[B]; a row's draws depend on seed and request id alone.
    """

    tokens: jax.Array | np.ndarray
    length: jax.Array | np.ndarray
    max_new_tokens: jax.Array | np.ndarray
    request_ids: jax.Array | np.ndarray


@struct.dataclass
class DecodeStats:
    """Counts of a batch. A block counts for a row only if the row was not done before the block.

    Attributes:
      blocks: i32[B], blocks, which are target calls.
      drafted: i32[B], draft passes of the row's blocks, see `Drafter.passes_of`.
      produced: i32[B], tokens produced: accepted + 1 of every block, cut at EOS but not at
        max_new_tokens (docs/methods.md), so that produced / blocks is the block
        efficiency.
      accepted_depths: i32[B, D + 1], entry d counts the blocks with d accepted nodes.
      accepted_ranks: i32[B, K], entry k counts the accepted nodes of which k earlier siblings
        were rejected.
      empty_residuals: i32[B], children that were accepted because the residual after them would
        have had no mass.
    """

    blocks: jax.Array
    drafted: jax.Array
    produced: jax.Array
    accepted_depths: jax.Array
    accepted_ranks: jax.Array
    empty_residuals: jax.Array


@struct.dataclass
class DecodeState:
    """Everything that changes while a batch decodes; its buffers are donated from call to call.

    Invariants: the target's cache holds length - 1 positions, because the last committed token,
    the root of the next tree, is in no cache; a row that is done never changes.

    Attributes:
      tokens: i32[B, T], the prompt and then the committed tokens; the rest is garbage.
      prompt_length: i32[B], at least 1.
      limit: i32[B], length at which the row ends: the prompt's and the row's max_new_tokens.
      length: i32[B], number n of committed tokens, prompt included, not cut at the limit.
      end: i32[B], end of the output: length cut at the first EOS and at the limit.
      done: bool[B].
      hit_eos: bool[B], whether the output ends with an EOS.
      failed_block: i32[B], the block whose logits defined no law, or `NEVER`.
      target_cache: of the target.
      target_scratch: for the N nodes of a tree.
      drafter: the drafter's own state.
      row_keys: key[B].
      stats: counts.
    """

    tokens: jax.Array
    prompt_length: jax.Array
    limit: jax.Array
    length: jax.Array
    end: jax.Array
    done: jax.Array
    hit_eos: jax.Array
    failed_block: jax.Array
    target_cache: KVCache
    target_scratch: Scratch
    drafter: Any
    row_keys: jax.Array
    stats: DecodeStats

    def context(self) -> DraftContext:
        """What a drafter may see."""
        return DraftContext(
            tokens=self.tokens,
            length=self.length,
            active=~self.done,
            target_cache=self.target_cache,
        )


def zero_stats(shape: TreeShape, batch: int) -> DecodeStats:
    """Counts before the first block; every field has its own buffer, so that it can be donated."""
    return DecodeStats(
        blocks=jnp.zeros((batch,), jnp.int32),
        drafted=jnp.zeros((batch,), jnp.int32),
        produced=jnp.zeros((batch,), jnp.int32),
        accepted_depths=jnp.zeros((batch, shape.depth + 1), jnp.int32),
        accepted_ranks=jnp.zeros((batch, shape.max_siblings), jnp.int32),
        empty_residuals=jnp.zeros((batch,), jnp.int32),
    )


def never(batch: int) -> jax.Array:
    """i32[B] of `NEVER`."""
    return jnp.full((batch,), NEVER, jnp.int32)
