"""Loads pairs for the launchers, as a configuration describes them."""

import jax
import transformers

import rsd_jax
from rsd_jax.evaluation.sweep.settings import PairSource


def load_pair(source: PairSource, mesh: jax.sharding.Mesh | None = None) -> rsd_jax.LoadedPair:
    """Target, draft (None without a draft) and tokenizer.

    Raises:
      ConfigError, CheckpointError: see `rsd_jax.load_model` and `rsd_jax.load_pair`.
    """
    if source.shipped:
        return rsd_jax.load_pair(source.shipped, dtype=source.dtype, mesh=mesh)
    return rsd_jax.LoadedPair(
        target=rsd_jax.load_model(
            source.target, dtype=source.dtype, mesh=mesh, adapter=source.adapter or None
        ),
        draft=rsd_jax.load_model(source.draft, dtype=source.dtype, mesh=mesh)
        if source.draft
        else None,
        tokenizer=_tokenizer(source.target),
    )


def _tokenizer(directory: str):
    try:
        return transformers.AutoTokenizer.from_pretrained(directory)
    except (OSError, ValueError) as error:
        raise rsd_jax.CheckpointError(f"{directory} holds no tokenizer: {error}") from error
