"""Llama (Touvron et al. 2023) as a pure function of parameters, tokens and explicit state."""

import contextlib
import dataclasses
from typing import Any, Self

import flax.linen as nn
import jax
import jax.numpy as jnp

from rsd_jax.core.backend import CPU, Backend, PrefixReads
from rsd_jax.core.types import KVCache, LanguageModel, ModelSizes, Params, Scratch
from rsd_jax.models.attention import accumulator, attend
from rsd_jax.models.cache import commit_slots, empty_buffers
from rsd_jax.models.config import LlamaConfig
from rsd_jax.models.rope import rotate, rotation

_Pair = tuple[jax.Array, jax.Array]  # keys and values, or cosines and sines


class RMSNorm(nn.Module):
    """Root-mean-square normalisation, computed in float32 or wider."""

    eps: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        wide = x.astype(accumulator(x.dtype))
        wide = wide * jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + self.eps)
        return wide.astype(x.dtype) * jnp.expand_dims(scale.astype(x.dtype), range(x.ndim - 1))


def _dense(config: LlamaConfig, features: int, name: str, dtype: jnp.dtype) -> nn.Dense:
    return nn.Dense(
        features,
        use_bias=config.has_bias(name),
        name=name,
        dtype=dtype,
        kernel_init=nn.initializers.normal(0.02),
    )


class Attention(nn.Module):
    """Rotary grouped-query attention over a committed cache and a scratch of tree nodes."""

    config: LlamaConfig
    reads: PrefixReads

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        rope: _Pair,
        committed: _Pair,
        length: jax.Array,
        scratch: _Pair,
        slot: int | jax.Array,
        mask: jax.Array,
    ) -> tuple[jax.Array, _Pair]:
        c = self.config

        def project(heads: int, name: str) -> jax.Array:
            y = _dense(c, heads * c.head_dim, name, x.dtype)(x)
            return y.reshape(*x.shape[:2], heads, c.head_dim)

        def rotated(heads: int, name: str) -> jax.Array:
            y = project(heads, f"{name}_proj")
            return rotate(RMSNorm(c.norm_eps, name=f"{name}_norm")(y) if c.head_norms else y, *rope)

        queries, keys = rotated(c.num_heads, "q"), rotated(c.num_kv_heads, "k")
        values = project(c.num_kv_heads, "v_proj")

        def store(buffer: jax.Array, new: jax.Array) -> jax.Array:
            new = jnp.moveaxis(new, 1, 2).astype(buffer.dtype)
            return jax.lax.dynamic_update_slice_in_dim(buffer, new, slot, axis=2)

        scratch = (store(scratch[0], keys), store(scratch[1], values))
        mixed = attend(queries, *committed, length, *scratch, mask, reads=self.reads)
        mixed = mixed.reshape(*x.shape[:2], -1)
        return _dense(c, c.hidden_size, "o_proj", x.dtype)(mixed), scratch


class MLP(nn.Module):
    """The gated MLP, SwiGLU (Shazeer 2020)."""

    config: LlamaConfig

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        c = self.config
        gate = _dense(c, c.intermediate_size, "gate_proj", x.dtype)(x)
        up = _dense(c, c.intermediate_size, "up_proj", x.dtype)(x)
        return _dense(c, c.hidden_size, "down_proj", x.dtype)(nn.silu(gate) * up)


class DecoderLayer(nn.Module):
    """One layer: attention and MLP, each a residual on the normalised stream.

    A skipped sub-layer is the identity under a `lax.cond`, so that its weights are not read.
    """

    config: LlamaConfig
    reads: PrefixReads

    def setup(self):
        self.input_layernorm = RMSNorm(self.config.norm_eps)
        self.self_attn = Attention(self.config, self.reads)
        self.post_attention_layernorm = RMSNorm(self.config.norm_eps)
        self.mlp = MLP(self.config)

    def __call__(
        self,
        x: jax.Array,
        rope: _Pair,
        committed: _Pair,
        length: jax.Array,
        scratch: _Pair,
        slot: int | jax.Array,
        mask: jax.Array,
        skip: jax.Array | None,
    ) -> tuple[jax.Array, _Pair]:
        def attention(layer: "DecoderLayer", x: jax.Array, scratch: _Pair):
            y, scratch = layer.self_attn(
                layer.input_layernorm(x), rope, committed, length, scratch, slot, mask
            )
            return x + y, scratch

        def mlp(layer: "DecoderLayer", x: jax.Array):
            return x + layer.mlp(layer.post_attention_layernorm(x))

        if skip is None:
            x, scratch = attention(self, x, scratch)
            return mlp(self, x), scratch
        x, scratch = nn.cond(skip[0], lambda _, *same: same, attention, self, x, scratch)
        return nn.cond(skip[1], lambda _, same: same, mlp, self, x), scratch


class Llama(nn.Module):
    """The decoder as a linen module; `LlamaModel` is the public class."""

    config: LlamaConfig
    reads: PrefixReads
    remat: bool = False

    @nn.compact
    def __call__(
        self,
        tokens: jax.Array,
        positions: jax.Array,
        cache: KVCache,
        scratch: Scratch,
        slot: int | jax.Array,
        mask: jax.Array,
        skips: jax.Array | None,
        logits_for: slice,
    ) -> tuple[jax.Array, Scratch]:
        c = self.config
        embed = nn.Embed(
            c.vocab_size,
            c.hidden_size,
            name="embed_tokens",
            embedding_init=nn.initializers.normal(0.02),
        )
        x = jnp.take(embed.embedding, tokens, axis=0)
        rope = rotation(c.rope, c.head_dim, positions, accumulator(x.dtype))
        # `slot` (argument 6, as `self` is 0) stays a Python number.
        layer = nn.remat(DecoderLayer, static_argnums=6) if self.remat else DecoderLayer
        stored = []
        for i in range(c.num_layers):
            with jax.named_scope(f"layer_{i}"):
                x, pair = layer(c, self.reads, name=f"layers_{i}")(
                    x,
                    rope,
                    (cache.keys[i], cache.values[i]),
                    cache.length,
                    (scratch.keys[i], scratch.values[i]),
                    slot,
                    mask,
                    None if skips is None else skips[i],
                )
            stored.append(pair)
        x = RMSNorm(c.norm_eps, name="norm")(x)[:, logits_for]
        keys, values = zip(*stored, strict=True)
        if c.tied_embeddings:
            # Not transposed: the transpose would copy the table in every step.
            head, product = embed.embedding, "bqd,vd->bqv"
        else:
            init = nn.initializers.normal(0.02)
            head = self.param("lm_head", init, (c.hidden_size, c.vocab_size))
            product = "bqd,dv->bqv"
        if x.shape[1] == 0 and not self.is_initializing():
            logits = jnp.zeros((*x.shape[:2], c.vocab_size), accumulator(x.dtype))
        else:
            logits = jnp.einsum(
                product, x, head.astype(x.dtype), preferred_element_type=accumulator(x.dtype)
            )
        return logits, Scratch(keys=keys, values=values)


@dataclasses.dataclass(frozen=True)
class LlamaModel(LanguageModel):
    """A Llama as a `LanguageModel`: static, hashable, all state explicit.

    Attributes:
      config: shape and constants.
      dtype: dtype of caches by name, e.g. "bfloat16"; the parameters' dtype decides the arithmetic.
        With float64 for both, everything is float64, the logits included.
      backend: choices that depend on the devices.
      remat: whether a backward pass recomputes each layer to save memory.
    """

    config: LlamaConfig
    dtype: str = "float32"
    backend: Backend = CPU
    remat: bool = False

    @property
    def vocab_size(self) -> int:
        return self.config.vocab_size

    @property
    def max_positions(self) -> int:
        return self.config.max_positions

    @property
    def num_layers(self) -> int:
        return self.config.num_layers

    @property
    def sizes(self) -> ModelSizes:
        return self.config

    def with_max_positions(self, limit: int) -> Self:
        config = dataclasses.replace(self.config, max_positions=limit)
        return dataclasses.replace(self, config=config)

    def with_remat(self, remat: bool) -> Self:
        return dataclasses.replace(self, remat=remat)

    def init_params(self, key: jax.Array) -> Params:
        """Random float32 parameters (normal, 0.02), for training and tests."""
        module = Llama(self.config, self.backend.reads)
        tokens = jnp.zeros((1, 1), jnp.int32)
        args = (tokens, tokens, self.init_cache(1, 1), self.init_scratch(1, 1))
        mask = jnp.ones((1, 1, 1), bool)
        return module.init(key, *args, 0, mask, None, slice(None))["params"]

    def _buffers(self, batch: int, slots: int) -> tuple[jax.Array, ...]:
        shape = (batch, self.config.num_kv_heads, slots, self.config.head_dim)
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
            out: Any = Llama(self.config, self.backend.reads, self.remat).apply(
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
