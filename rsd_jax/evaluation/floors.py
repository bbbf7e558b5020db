"""What a memory-bound machine allows: bytes read per step and per block."""

import dataclasses
import math

import jax.numpy as jnp

from rsd_jax.core.types import LanguageModel, sizes_of


@dataclasses.dataclass(frozen=True)
class Floor:
    """Least traffic of one decoding step of a model, and the time it takes.

    Attributes:
      bytes: parameters read once (no gather from an untied table) and the live cache of all rows.
      seconds: at the bandwidth given.
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
    """Numbers that a pass with sub-layers skipped reads over those of a whole one, in [0, 1].

    Weights that are kept, the output head and the cache of the attention that is kept; not the
    rows of an untied input table. With a context of 0 it is r, by parameters.

    Args:
      model: whose passes they are.
      skipped: attentions and MLPs that are.
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
