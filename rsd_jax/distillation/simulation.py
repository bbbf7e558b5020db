"""Block efficiency of any tree method along a text, without decoding.

The method's own tree rule and verifier run for one block from chosen positions. Only the context
is simplified: all nodes of a level have the laws at that position of the text, whatever tokens
lead to the nodes. The result is meant for logs and for comparing drafts; decoding meets other
contexts than the text.
"""

import jax
import jax.numpy as jnp
import numpy as np

from rsd_jax.core.backend import CPU, Backend
from rsd_jax.core.sampling import block_keys
from rsd_jax.core.warp import Warp
from rsd_jax.drafters.growth import grow_tree
from rsd_jax.drafters.model import ModelDrafter
from rsd_jax.engine.methods import Method
from rsd_jax.errors import ConfigError
from rsd_jax.verifiers.base import TargetLaws


def block_starts(length: int, depth: int, count: int) -> np.ndarray:
    """i32[C], C <= `count` places spread over a window, each with room for `depth` levels.

    Empty if the window is too short.
    """
    last = length - 1 - depth
    if last < 0:
        return np.zeros(0, np.int32)
    return np.unique(np.linspace(0, last, count).astype(np.int32))


def simulated_tokens(
    method: Method,
    target_logits: jax.Array,
    draft_logits: jax.Array,
    starts: np.ndarray,
    *,
    warp: Warp,
    keys: jax.Array,
    backend: Backend = CPU,
) -> jax.Array:
    """Tokens of one block from each place, i32[B, C].

    Args:
      method: a method with a draft model and a tree rule.
      target_logits, draft_logits: f32[B, T, V], at every place of B windows.
      starts: i32[C], see `block_starts`.
      warp: warp of both laws.
      keys: key[B].
      backend: backend of the target.

    Raises:
      ConfigError: the method does not draft with a model.
    """
    drafter, depth = method.drafter, method.drafter.shape.depth
    if not isinstance(drafter, ModelDrafter):
        raise ConfigError(f"method {method.name!r} has no draft model; simulation needs one")
    levels = jnp.asarray(starts[:, None] + np.arange(depth + 1, dtype=np.int32))
    count = len(starts)

    def window(target: jax.Array, draft: jax.Array, key: jax.Array) -> jax.Array:
        laws, guesses = target[levels], draft[levels]  # f32[C, D + 1, V]
        own = block_keys(jnp.broadcast_to(key, (count,)), jnp.asarray(starts))

        def score_level(level: int, tokens: jax.Array, visible: jax.Array, carry: None):
            shape = (*tokens.shape, draft.shape[-1])
            return jnp.broadcast_to(guesses[:, level, None], shape), carry

        root = jnp.zeros((count,), jnp.int32)
        tree, _ = grow_tree(drafter.rule, score_level, None, root, warp=warp, keys=own)
        at_nodes = laws[:, np.asarray(drafter.shape.depths)]
        target_laws = TargetLaws(logits=at_nodes, warp=warp, backend=backend)
        result = method.verifier.verify(tree, target_laws, own)
        return result.num_accepted + 1

    # Window by window, as the laws of all trees would be the largest array of the run.
    return jax.lax.map(lambda row: window(*row), (target_logits, draft_logits, keys))
