"""OPT (Zhang et al. 2022) as a pure function of parameters, tokens and explicit state."""

import dataclasses
from typing import ClassVar, Self

import flax.linen as nn
import jax
import jax.numpy as jnp

from rsd_jax.core.backend import Backend
from rsd_jax.core.types import KVCache, Scratch
from rsd_jax.models.attention import accumulator, attend
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
from rsd_jax.models.opt_config import OFFSET, OPTConfig

_EPS = 1e-5  # torch's; no key of config.json says otherwise


class LayerNorm(nn.Module):
    """Layer normalisation (Ba et al. 2016), computed in float32 or wider."""

    weights: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        wide = x.astype(accumulator(x.dtype))
        wide = wide - jnp.mean(wide, axis=-1, keepdims=True)
        wide = wide * jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + _EPS)
        if self.weights:
            shape = (1,) * (x.ndim - 1) + x.shape[-1:]
            scale = self.param("scale", nn.initializers.ones, x.shape[-1:])
            bias = self.param("bias", nn.initializers.zeros, x.shape[-1:])
            wide = wide * scale.astype(wide.dtype).reshape(shape)
            wide = wide + bias.astype(wide.dtype).reshape(shape)
        return wide.astype(x.dtype)


class Attention(nn.Module):
    """Attention over a committed cache and a scratch of tree nodes; nothing is rotated."""

    config: OPTConfig
    backend: Backend

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        committed: Pair,
        length: jax.Array,
        scratch: Pair,
        slot: int | jax.Array,
        mask: jax.Array,
    ) -> tuple[jax.Array, Pair]:
        c = self.config

        def project(name: str) -> jax.Array:
            y = dense(c, self.backend, c.hidden_size, name, x.dtype)(x)
            return y.reshape(*x.shape[:2], c.num_heads, c.head_dim)

        queries, keys, values = (project(name) for name in ("q_proj", "k_proj", "v_proj"))
        scratch = stored_in(scratch, keys, values, slot)
        mixed = attend(queries, *committed, length, *scratch, mask, reads=self.backend.reads)
        mixed = mixed.reshape(*x.shape[:2], -1)
        return dense(c, self.backend, c.hidden_size, "out_proj", x.dtype)(mixed), scratch


class MLP(nn.Module):
    """Two dense layers with ReLU between them."""

    config: OPTConfig
    backend: Backend

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        c = self.config
        wide = nn.relu(dense(c, self.backend, c.intermediate_size, "fc1", x.dtype)(x))
        return dense(c, self.backend, c.hidden_size, "fc2", x.dtype)(wide)


class DecoderLayer(nn.Module):
    """One layer: attention and MLP, each a residual with a norm before it or behind the sum.

    The norm belongs to its sub-layer and is skipped with it.
    """

    config: OPTConfig
    backend: Backend

    def setup(self):
        self.self_attn_layer_norm = LayerNorm(self.config.norm_weights)
        self.self_attn = Attention(self.config, self.backend)
        self.final_layer_norm = LayerNorm(self.config.norm_weights)
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
    ) -> tuple[jax.Array, Pair]:
        before = self.config.norm_before

        def attention(layer: "DecoderLayer", x: jax.Array, scratch: Pair):
            norm = layer.self_attn_layer_norm
            inner = norm(x) if before else x
            y, scratch = layer.self_attn(inner, committed, length, scratch, slot, mask)
            return x + y if before else norm(x + y), scratch

        def mlp(layer: "DecoderLayer", x: jax.Array):
            norm = layer.final_layer_norm
            return x + layer.mlp(norm(x)) if before else norm(x + layer.mlp(x))

        return run_sublayers(self, skip, attention, mlp, x, scratch)


class OPT(nn.Module):
    """The decoder as a linen module; `OPTModel` is the public class."""

    config: OPTConfig
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
        embedding = table(c.vocab_size, c.embedding_size, "embed_tokens")
        places = table(c.max_positions + OFFSET, c.hidden_size, "embed_positions")
        x = jnp.take(embedding, tokens, axis=0)
        if c.projects:
            x = dense(c, self.backend, c.hidden_size, "project_in", x.dtype)(x)
        # Nodes of a last tree may lie behind the last position; they are cut later. `clip` gives
        # these nodes a law, where the default would give NaN.
        x = x + jnp.take(places, positions + OFFSET, axis=0, mode="clip")
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
        )
        x = x[:, logits_for]
        if c.final_norm:
            x = LayerNorm(c.norm_weights, name="final_layer_norm")(x)
        if c.projects:
            x = dense(c, self.backend, c.embedding_size, "project_out", x.dtype)(x)
        logits = head_logits(self, x, c.vocab_size, embedding if c.tied_embeddings else None)
        return logits, scratch


@dataclasses.dataclass(frozen=True)
class OPTModel(DecoderModel):
    """An OPT as a `LanguageModel`.

    Attributes:
      limit: longest sequence, if it differs from the table of positions; positions behind the table
        have its last row.
    """

    module: ClassVar[type[nn.Module]] = OPT

    config: OPTConfig
    limit: int | None = None

    @property
    def max_positions(self) -> int:
        return self.config.max_positions if self.limit is None else self.limit

    def with_max_positions(self, limit: int) -> Self:
        own = limit == self.config.max_positions
        return dataclasses.replace(self, limit=None if own else limit)
