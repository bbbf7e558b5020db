"""Least bytes that a model pass has to read, and the time this takes on a memory-bound machine."""

import dataclasses
import math

import jax.numpy as jnp

from rsd_jax.core.types import LanguageModel, sizes_of


@dataclasses.dataclass(frozen=True)
class Floor:
    """Least memory traffic of one decoding step of a model, and the time of this traffic.

    Attributes:
      bytes: parameters, without an untied input table, and the committed cache of all rows.
      seconds: time at the given bandwidth.
    """

    bytes: int
    seconds: float


def decode_floor(model: LanguageModel, *, batch: int, context: int, bandwidth: float) -> Floor:
    """The floor of one pass of `model` over `batch` rows.

    Args:
      model: its dtype decides the bytes per number.
      batch: rows.
      context: committed positions of each row.
      bandwidth: bytes per second, as measured.

    Raises:
      ConfigError: a model without sizes.
    """
    sizes = sizes_of(model)
    cache = model.num_layers * sizes.cache_numbers * context * batch
    total = jnp.dtype(model.dtype).itemsize * (sizes.num_parameters_read + cache)
    return Floor(total, total / bandwidth if bandwidth else math.nan)


def kept_fraction(
    model: LanguageModel, skipped: tuple[int, int], *, batch: int = 1, context: int = 0
) -> float:
    """Scalars that a pass with skipped sub-layers reads over those of a whole pass, in [0, 1].

    Counted are the weights of the kept sub-layers, the output head and the cache of the kept
    attentions, but not an untied input table. With a context of 0 the fraction is r.

    Args:
      model: the model.
      skipped: how many attentions and how many MLPs are skipped.
      batch: rows.
      context: committed positions of each row.

    Raises:
      ConfigError: a model without sizes.
    """
    sizes = sizes_of(model)
    cache = sizes.cache_numbers * context * batch
    attentions, mlps = skipped
    saved = attentions * (sizes.attention_parameters + cache) + mlps * sizes.mlp_parameters
    return 1.0 - saved / (sizes.num_parameters_read + model.num_layers * cache)
