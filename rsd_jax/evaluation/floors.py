"""What a memory-bound machine allows: bytes read per step and per block."""

import dataclasses
import math

import jax.numpy as jnp

from rsd_jax.models.llama import LlamaModel


@dataclasses.dataclass(frozen=True)
class Floor:
    """Least traffic of one decoding step of a model, and the time it takes.

    Attributes:
      bytes: parameters read once (no gather from an untied table) and the live cache of all rows.
      seconds: at the bandwidth given.
    """

    bytes: int
    seconds: float


def decode_floor(model: LlamaModel, *, batch: int, context: int, bandwidth: float) -> Floor:
    """The floor of one pass of `model` over `batch` rows.

    Args:
      model: its dtype decides the bytes per number.
      batch: rows.
      context: committed positions of each row.
      bandwidth: bytes per second, as measured.
    """
    config, size = model.config, jnp.dtype(model.dtype).itemsize
    cache = 2 * config.num_layers * config.num_kv_heads * config.head_dim * context * batch
    total = size * (config.num_parameters_read + cache)
    return Floor(total, total / bandwidth if bandwidth else math.nan)
