"""Llama (Touvron et al. 2023) as a pure function of parameters, tokens and explicit state."""

import dataclasses
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from rsd_jax.core.backend import Backend
from rsd_jax.core.types import KVCache, Scratch
from rsd_jax.models.attention import accumulator, attend
from rsd_jax.models.config import LlamaConfig
from rsd_jax.models.decoder import (
    DecoderModel,
    Pair,
    dense,
    head_logits,
    rematerialised,
    run_layers,
    run_sublayers,
    stored_in,
    table,
)
from rsd_jax.models.rope import rotate, rotation


class RMSNorm(nn.Module):
    """Root-mean-square normalisation, computed in float32 or wider."""

    eps: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        wide = x.astype(accumulator(x.dtype))
        wide = wide * jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + self.eps)
        return wide.astype(x.dtype) * jnp.expand_dims(scale.astype(x.dtype), range(x.ndim - 1))


class Attention(nn.Module):
    """Rotary grouped-query attention over a committed cache and a scratch of tree nodes."""

    config: LlamaConfig
    backend: Backend

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        rope: Pair,
        committed: Pair,
        length: jax.Array,
        scratch: Pair,
        slot: int | jax.Array,
        mask: jax.Array,
    ) -> tuple[jax.Array, Pair]:
        c = self.config

        def project(heads: int, name: str) -> jax.Array:
            y = dense(c, self.backend, heads * c.head_dim, name, x.dtype)(x)
            return y.reshape(*x.shape[:2], heads, c.head_dim)

        def rotated(heads: int, name: str) -> jax.Array:
            y = project(heads, f"{name}_proj")
            return rotate(RMSNorm(c.norm_eps, name=f"{name}_norm")(y) if c.head_norms else y, *rope)

        queries, keys = rotated(c.num_heads, "q"), rotated(c.num_kv_heads, "k")
        values = project(c.num_kv_heads, "v_proj")

        scratch = stored_in(scratch, keys, values, slot)
        mixed = attend(queries, *committed, length, *scratch, mask, reads=self.backend.reads)
        mixed = mixed.reshape(*x.shape[:2], -1)
        return dense(c, self.backend, c.hidden_size, "o_proj", x.dtype)(mixed), scratch


class MLP(nn.Module):
    """The gated MLP, SwiGLU (Shazeer 2020)."""

    config: LlamaConfig
    backend: Backend

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        c = self.config
        gate = dense(c, self.backend, c.intermediate_size, "gate_proj", x.dtype)(x)
        up = dense(c, self.backend, c.intermediate_size, "up_proj", x.dtype)(x)
        return dense(c, self.backend, c.hidden_size, "down_proj", x.dtype)(nn.silu(gate) * up)


class DecoderLayer(nn.Module):
    """One layer: attention and MLP, each a residual on the normalised stream."""

    config: LlamaConfig
    backend: Backend

    def setup(self):
        self.input_layernorm = RMSNorm(self.config.norm_eps)
        self.self_attn = Attention(self.config, self.backend)
        self.post_attention_layernorm = RMSNorm(self.config.norm_eps)
        self.mlp = MLP(self.config, self.backend)

    def __call__(
        self,
        x: jax.Array,
        committed: Pair,
        length: jax.Array,
        scratch: Pair,
        slot: int | jax.Array,
        mask: jax.Array,
        skip: jax.Array | None,
        rope: Pair,
    ) -> tuple[jax.Array, Pair]:
        def attention(layer: "DecoderLayer", x: jax.Array, scratch: Pair):
            y, scratch = layer.self_attn(
                layer.input_layernorm(x), rope, committed, length, scratch, slot, mask
            )
            return x + y, scratch

        def mlp(layer: "DecoderLayer", x: jax.Array):
            return x + layer.mlp(layer.post_attention_layernorm(x))

        return run_sublayers(self, skip, attention, mlp, x, scratch)


class Llama(nn.Module):
    """The decoder as a linen module; `LlamaModel` is the public class."""

    config: LlamaConfig
    backend: Backend
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
        embedding = table(c.vocab_size, c.hidden_size, "embed_tokens")
        x = jnp.take(embedding, tokens, axis=0)
        rope = rotation(c.rope, c.head_dim, positions, accumulator(x.dtype))
        layer = rematerialised(DecoderLayer, self.remat)
        x, scratch = run_layers(
            lambda name: layer(c, self.backend, name=name),
            c.num_layers,
            x,
            cache,
            scratch,
            slot,
            mask,
            skips,
            rope,
        )
        x = RMSNorm(c.norm_eps, name="norm")(x)[:, logits_for]
        logits = head_logits(self, x, c.vocab_size, embedding if c.tied_embeddings else None)
        return logits, scratch


@dataclasses.dataclass(frozen=True)
class LlamaModel(DecoderModel):
    """A Llama as a `LanguageModel`; also its relatives, whose configuration says what differs."""

    module: ClassVar[type[nn.Module]] = Llama

    config: LlamaConfig
