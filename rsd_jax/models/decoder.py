"""What the networks of all families share: the layers in turn, the head, the public class."""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Self

import flax.linen as nn
import jax
import jax.numpy as jnp

from rsd_jax.core.backend import CPU, Backend
from rsd_jax.core.types import KVCache, LanguageModel, ModelSizes, Params, Scratch
from rsd_jax.models import products
from rsd_jax.models.attention import accumulator
from rsd_jax.models.cache import commit_slots, empty_buffers

Pair = tuple[jax.Array, jax.Array]
"""Keys and values, or cosines and sines."""

INIT = nn.initializers.normal(0.02)


def dense(config: Any, backend: Backend, features: int, name: str, dtype: jnp.dtype) -> nn.Dense:
    """The dense layer of this name; `config.has_bias` says whether it has a bias."""
    return nn.Dense(
        features,
        use_bias=config.has_bias(name),
        name=name,
        dtype=dtype,
        kernel_init=INIT,
        dot_general=products.dot_general if backend.few_rows else None,
    )


def table(rows: int, width: int, name: str) -> jax.Array:
    """The table [rows, width] of an embedding, inside a compact call."""
    return nn.Embed(rows, width, name=name, embedding_init=INIT).embedding


def stored_in(scratch: Pair, keys: jax.Array, values: jax.Array, slot: int | jax.Array) -> Pair:
    """Scratch dtype[B, H, M, K] with the keys and values dtype[B, Q, H, K] from `slot` on."""

    def store(buffer: jax.Array, new: jax.Array) -> jax.Array:
        new = jnp.moveaxis(new, 1, 2).astype(buffer.dtype)
        return jax.lax.dynamic_update_slice_in_dim(buffer, new, slot, axis=2)

    return store(scratch[0], keys), store(scratch[1], values)


def run_sublayers(
    layer: Any,
    skip: jax.Array | None,
    attention: Callable[..., tuple[jax.Array, Pair]],
    mlp: Callable[..., jax.Array],
    x: jax.Array,
    scratch: Pair,
) -> tuple[jax.Array, Pair]:
    """The two sub-layers of a layer; a skipped one is the identity.

    A sub-layer is skipped under a `lax.cond`, so that its weights are not read.

    Args:
      layer: the bound module of the layer, first argument of both functions.
      skip: bool[2] or None.
      attention: (layer, x, scratch) to the new x and scratch.
      mlp: (layer, x) to the new x.
      x: dtype[B, Q, hidden].
      scratch: of the layer.
    """
    if skip is None:
        x, scratch = attention(layer, x, scratch)
        return mlp(layer, x), scratch
    x, scratch = nn.cond(skip[0], lambda _, *same: same, attention, layer, x, scratch)
    return nn.cond(skip[1], lambda _, same: same, mlp, layer, x), scratch


def run_layers(
    layer: Callable[[str], Callable[..., tuple[jax.Array, Pair]]],
    count: int,
    x: jax.Array,
    cache: KVCache,
    scratch: Scratch,
    slot: int | jax.Array,
    mask: jax.Array,
    skips: jax.Array | None,
    *shared: Any,
) -> tuple[jax.Array, Scratch]:
    """All layers in turn, inside a compact call.

    Args:
      layer: name to the module of a layer, which takes (x, committed, length, scratch, slot, mask,
        skip, *shared); see `rematerialised` for `slot`.
      count: number of layers.
      x: dtype[B, Q, hidden].
      cache, scratch, slot, mask, skips: see `LanguageModel.forward`.
      shared: given to all layers.

    Returns:
      x behind the last layer and the new scratch.
    """
    stored = []
    for i in range(count):
        with jax.named_scope(f"layer_{i}"):
            x, pair = layer(f"layers_{i}")(
                x,
                (cache.keys[i], cache.values[i]),
                cache.length,
                (scratch.keys[i], scratch.values[i]),
                slot,
                mask,
                None if skips is None else skips[i],
                *shared,
            )
        stored.append(pair)
    keys, values = zip(*stored, strict=True)
    return x, Scratch(keys=keys, values=values)


def rematerialised(layer: type[nn.Module], remat: bool) -> Any:
    """The class of a layer that is computed again in a backward pass, if `remat`."""
    # `slot` (argument 5, as `self` is 0) stays a Python number.
    return nn.remat(layer, static_argnums=5) if remat else layer


def head_logits(
    module: nn.Module, x: jax.Array, vocab_size: int, tied: jax.Array | None
) -> jax.Array:
    """Logits [B, Q, V] of the accumulator's dtype, inside a compact call of `module`.

    Args:
      module: gets the parameter `lm_head` [width, V] unless the head is tied.
      x: dtype[B, Q, width], of the queries whose logits are wanted; Q may be 0.
      vocab_size: V.
      tied: the embedding [V, width], if it is also the head.
    """
    if tied is not None:
        # Not transposed: the transpose would copy the table in every step.
        head, product = tied, "bqd,vd->bqv"
    else:
        head = module.param("lm_head", INIT, (x.shape[-1], vocab_size))
        product = "bqd,dv->bqv"
    wide = accumulator(x.dtype)
    if x.shape[1] == 0 and not module.is_initializing():
        return jnp.zeros((*x.shape[:2], vocab_size), wide)
    return jnp.einsum(product, x, head.astype(x.dtype), preferred_element_type=wide)


@dataclasses.dataclass(frozen=True)
class DecoderModel(LanguageModel):
    """A decoder as a `LanguageModel`: static, hashable, all state explicit.

    A family's class names its `module`, which takes (config, backend, remat) and whose call takes
    the arguments of `LanguageModel.forward` in order.

    Attributes:
      config: shape and constants; the others are given by name.
      dtype: dtype of caches by name, e.g. "bfloat16"; the parameters' dtype decides the arithmetic.
        With float64 for both, everything is float64, the logits included.
      backend: choices that depend on the devices.
      remat: whether a backward pass recomputes each layer to save memory.
      kv_copies: how often parameters and caches hold each key/value head; see `split_kv_heads`.
    """

    module: ClassVar[type[nn.Module]]

    config: Any
    _: dataclasses.KW_ONLY
    dtype: str = "float32"
    backend: Backend = CPU
    remat: bool = False
    kv_copies: int = 1

    @property
    def stored_config(self) -> Any:
        """The configuration in which every copy of a key/value head counts as a head."""
        if self.kv_copies == 1:
            return self.config
        heads = self.kv_copies * self.config.num_kv_heads
        return dataclasses.replace(self.config, num_kv_heads=heads)

    @property
    def vocab_size(self) -> int:
        size: int = self.config.vocab_size
        return size

    @property
    def max_positions(self) -> int:
        limit: int = self.config.max_positions
        return limit

    @property
    def num_layers(self) -> int:
        count: int = self.config.num_layers
        return count

    @property
    def sizes(self) -> ModelSizes:
        sizes: ModelSizes = self.config
        return sizes

    def with_max_positions(self, limit: int) -> Self:
        config = dataclasses.replace(self.config, max_positions=limit)
        return dataclasses.replace(self, config=config)

    def with_remat(self, remat: bool) -> Self:
        return dataclasses.replace(self, remat=remat)

    def init_params(self, key: jax.Array) -> Params:
        """Random float32 parameters (normal, 0.02), for training and tests."""
        tokens = jnp.zeros((1, 1), jnp.int32)
        args = (tokens, tokens, self.init_cache(1, 1), self.init_scratch(1, 1))
        mask = jnp.ones((1, 1, 1), bool)
        return self._network(False).init(key, *args, 0, mask, None, slice(None))["params"]

    def _network(self, remat: bool) -> nn.Module:
        make: Any = self.module
        network: nn.Module = make(self.stored_config, self.backend, remat)
        return network

    def _buffers(self, batch: int, slots: int) -> tuple[jax.Array, ...]:
        shape = (batch, self.stored_config.num_kv_heads, slots, self.config.head_dim)
        return empty_buffers(self.config.num_layers, shape, jnp.dtype(self.dtype))

    def init_cache(self, batch: int, capacity: int) -> KVCache:
        return KVCache(
            keys=self._buffers(batch, capacity),
            values=self._buffers(batch, capacity),
            length=jnp.zeros((batch,), jnp.int32),
        )

    def init_scratch(self, batch: int, slots: int) -> Scratch:
        return Scratch(keys=self._buffers(batch, slots), values=self._buffers(batch, slots))

    def forward(
        self,
        params: Params,
        tokens: jax.Array,
        positions: jax.Array,
        cache: KVCache,
        scratch: Scratch,
        *,
        slot: int | jax.Array,
        mask: jax.Array,
        skips: jax.Array | None = None,
        logits_for: slice = slice(None),
    ) -> tuple[jax.Array, Scratch]:
        # TPUs and GPUs multiply float32 in fewer bits unless they are asked not to; the bits may
        # depend on the width of the pass.
        exact = self.dtype == "float32"
        with jax.default_matmul_precision("highest") if exact else contextlib.nullcontext():
            out: Any = self._network(self.remat).apply(
                {"params": params}, tokens, positions, cache, scratch, slot, mask, skips, logits_for
            )
        return out

    def commit(
        self,
        cache: KVCache,
        scratch: Scratch,
        slots: jax.Array,
        start: jax.Array,
        count: jax.Array,
    ) -> KVCache:
        return commit_slots(cache, scratch, slots, start, count)
