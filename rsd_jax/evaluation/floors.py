"""What a memory-bound machine allows: bytes read per step and per block."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np

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


def kept_fraction(model: LlamaModel, skips: np.ndarray, *, batch: int, context: int) -> float:
    """Bytes that a pass with sub-layers skipped reads over those of a whole one, in [0, 1].

    Weights that are kept, the output head and the cache of the attention that is kept; not the
    rows of an untied input table.

    Args:
      model: whose sub-layers.
      skips: bool[layers, 2], attention and MLP.
      batch: rows.
      context: committed positions of each row.
    """
    config = model.config
    cache = 2 * config.num_kv_heads * config.head_dim * context * batch
    attention, mlp = skips.sum(axis=0).tolist()
    skipped = attention * (config.attention_parameters + cache) + mlp * config.mlp_parameters
    return 1.0 - skipped / (config.num_parameters_read + config.num_layers * cache)
