"""Pairs for the launchers, from where a configuration says they are."""

from collections.abc import Sequence

import jax
import transformers

import rsd_jax
from rsd_jax.evaluation.sweep.settings import PairSource


def make_mesh(sizes: Sequence[int | str] | None) -> jax.sharding.Mesh | None:
    """A mesh of these sizes of data and model; None for no sizes.

    Raises:
      ConfigError: the devices are not enough.
    """
    try:
        return jax.make_mesh(tuple(map(int, sizes)), ("data", "model")) if sizes else None
    except ValueError as error:
        raise rsd_jax.ConfigError(
            f"mesh={sizes} cannot be made of {jax.device_count()} devices: {error}"
        ) from error


def load_pair(source: PairSource, mesh: jax.sharding.Mesh | None = None) -> rsd_jax.LoadedPair:
    """Target, draft, if there is one, and tokenizer.

    Raises:
      ConfigError, CheckpointError: see `rsd_jax.load_model` and `rsd_jax.load_pair`.
    """
    if source.shipped:
        return rsd_jax.load_pair(source.shipped, dtype=source.dtype, mesh=mesh)
    return rsd_jax.LoadedPair(
        target=_load_target(source, mesh),
        draft=rsd_jax.load_model(source.draft, dtype=source.dtype, mesh=mesh)
        if source.draft
        else None,
        tokenizer=_tokenizer(source.target),
    )


def load_target(source: PairSource):
    """Target and tokenizer; errors as `load_pair`."""
    if source.shipped:
        pair = rsd_jax.load_pair(source.shipped, dtype=source.dtype)
        return pair.target, pair.tokenizer
    return _load_target(source, None), _tokenizer(source.target)


def _load_target(source: PairSource, mesh: jax.sharding.Mesh | None) -> rsd_jax.LoadedModel:
    adapter = source.adapter or None
    return rsd_jax.load_model(source.target, dtype=source.dtype, mesh=mesh, adapter=adapter)


def _tokenizer(directory: str):
    try:
        return transformers.AutoTokenizer.from_pretrained(directory)
    except (OSError, ValueError) as error:
        raise rsd_jax.CheckpointError(f"{directory} holds no tokenizer: {error}") from error
