"""What a memory-bound machine allows: bytes read per step and per block."""

import dataclasses
import math

import jax.numpy as jnp

from rsd_jax.models.config import LlamaConfig
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


def kept_fraction(
    config: LlamaConfig, skipped: tuple[int, int], *, batch: int = 1, context: int = 0
) -> float:
    """Numbers that a pass with sub-layers skipped reads over those of a whole one, in [0, 1].

    Weights that are kept, the output head and the cache of the attention that is kept; not the
    rows of an untied input table. With a context of 0 it is r, by parameters.

    Args:
      config: of the model.
      skipped: attentions and MLPs that are.
      batch: rows.
      context: committed positions of each row.
    """
    cache = 2 * config.num_kv_heads * config.head_dim * context * batch
    attentions, mlps = skipped
    saved = attentions * (config.attention_parameters + cache) + mlps * config.mlp_parameters
    return 1.0 - saved / (config.num_parameters_read + config.num_layers * cache)
