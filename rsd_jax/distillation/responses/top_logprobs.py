"""The target's likeliest tokens along sequences, with their log probabilities."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from rsd_jax.core.processes import read
from rsd_jax.core.types import LanguageModel, LoadedModel, Params
from rsd_jax.distillation.responses.shards import TOP_FIELDS, token_dtype
from rsd_jax.distillation.truncated import truncate
from rsd_jax.engine.batching import bucket


@functools.partial(jax.jit, static_argnums=(0, 3))
def _top(
    model: LanguageModel, params: Params, tokens: jax.Array, k: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """i32[B, Q, k], f32[B, Q, k] and f32[B, Q] after each token of i32[B, Q]."""

    def row(tokens: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        logits = model.score(params, tokens[None])[0].astype(jnp.float32)
        kept = truncate(logits, k)
        return kept.ids, kept.values, kept.log_rest

    # Row by row, as the logits of a whole batch would be the largest array of the run.
    return jax.lax.map(row, tokens)


def top_logprobs(
    target: LoadedModel,
    sequences: Sequence[Sequence[int]],
    prompt_lengths: Sequence[int],
    k: int,
    *,
    batch_size: int,
) -> dict[str, np.ndarray]:
    """The fields `TOP_FIELDS` of a `shards.Shard` with these sequences.

    Args:
      target: the model.
      sequences: prompts with their responses.
      prompt_lengths: tokens of each prompt, at least 1.
      k: how many tokens, at most the vocabulary's size.
      batch_size: sequences per call of the device.
    """
    length = bucket(max(map(len, sequences)))
    kept: list[list[np.ndarray]] = []
    for first in range(0, len(sequences), batch_size):
        tokens = np.zeros((batch_size, length), np.int32)
        chosen = sequences[first : first + batch_size]
        for row, sequence in enumerate(chosen):
            tokens[row, : len(sequence)] = sequence
        found = read(_top(target.model, target.params, jnp.asarray(tokens), k))
        for row, sequence in enumerate(chosen):
            # The law of a token is at the position of the previous token.
            own = slice(prompt_lengths[first + row] - 1, len(sequence) - 1)
            kept.append([array[row, own] for array in found])
    ids, values, rest = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    stored = (ids.astype(token_dtype(target.model.vocab_size)), values, rest)
    return dict(zip(TOP_FIELDS, stored, strict=True))
