"""A language model whose logits are rows of a table, looked up by the entries that a query sees.

Each cache or scratch entry stores a hash of its token and position instead of keys and values. The
hash of all entries that a query sees gives the row. A wrong mask, position, length or commit
therefore gives an unrelated row, while the law of a whole sequence can be enumerated exactly.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rsd_jax.core.types import KVCache, LanguageModel, Params, Scratch
from rsd_jax.models.cache import commit_slots, empty_buffers

_TOKEN = np.uint32(0x9E3779B1)
_POSITION = np.uint32(0x85EBCA77)


def _mix(x: Any) -> Any:
    """Hashes uint32 numpy or JAX arrays (the finaliser of MurmurHash3)."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x = (x ^ (x >> np.uint32(shift))) * np.uint32(factor)
    return x ^ (x >> np.uint32(16))


def entry_hash(tokens: Any, positions: Any) -> Any:
    """uint32 hash of each entry; the hash of a set of entries is their sum modulo 2**32."""
    tokens, positions = tokens.astype(np.uint32), positions.astype(np.uint32)
    return _mix(tokens * _TOKEN + positions * _POSITION + np.uint32(1))


@dataclasses.dataclass(frozen=True)
class TableModel(LanguageModel):
    """A `LanguageModel` by table look-up; parameters are {"tables": f32[layers, 2, codes, V]}.

    Every sub-layer adds its row to the logits, so that skipping sub-layers changes them.

    Attributes:
      vocab_size: V.
      codes: rows of the table; contexts whose hashes collide share a law, which is harmless.
      num_layers: layers of two sub-layers.
      max_positions: longest sequence.
    """

    vocab_size: int = 3
    codes: int = 32749
    num_layers: int = 2
    max_positions: int = 4096

    def init_params(self, key: jax.Array, scale: float = 1.0) -> Params:
        """Random tables; the logits are normal with standard deviation `scale`."""
        shape = (self.num_layers, 2, self.codes, self.vocab_size)
        deviation = scale / (2 * self.num_layers) ** 0.5
        return {"tables": deviation * jax.random.normal(key, shape, jnp.float32)}

    def perturbed(self, params: Params, key: jax.Array, scale: float) -> Params:
        """Tables near `params`, for a draft that partly agrees with its target."""
        noise = self.init_params(key, scale)
        return jax.tree.map(jnp.add, params, noise)

    def _buffers(self, batch: int, slots: int) -> tuple[jax.Array, ...]:
        return empty_buffers(1, (batch, 1, slots, 1), jnp.dtype(jnp.uint32))

    def init_cache(self, batch: int, capacity: int) -> KVCache:
        keys = self._buffers(batch, capacity)
        return KVCache(keys=keys, values=(), length=jnp.zeros((batch,), jnp.int32))

    def init_scratch(self, batch: int, slots: int) -> Scratch:
        return Scratch(keys=self._buffers(batch, slots), values=())

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
        new = entry_hash(tokens, positions)[:, None, :, None]
        keys = jax.lax.dynamic_update_slice_in_dim(scratch.keys[0], new, slot, axis=2)
        scratch = Scratch(keys=(keys,), values=())
        mask = mask[:, logits_for]
        batch = tokens.shape[0]
        if mask.shape[1] == 0:
            return jnp.zeros((batch, 0, self.vocab_size), jnp.float32), scratch
        zero = jnp.uint32(0)
        committed = jnp.arange(cache.capacity, dtype=jnp.int32)[None] < cache.length[:, None]
        prefix = jnp.where(committed, _entries(cache), zero).sum(axis=1, dtype=jnp.uint32)
        seen = jnp.where(mask, _entries(scratch)[:, None], zero).sum(axis=2, dtype=jnp.uint32)
        rows = (_mix(prefix[:, None] + seen) % jnp.uint32(self.codes)).astype(jnp.int32)
        tables = params["tables"]
        if skips is not None:
            tables = jnp.where(skips[:, :, None, None], jnp.zeros_like(tables), tables)
        return tables.sum(axis=(0, 1))[rows], scratch

    def commit(
        self,
        cache: KVCache,
        scratch: Scratch,
        slots: jax.Array,
        start: jax.Array,
        count: jax.Array,
    ) -> KVCache:
        return commit_slots(cache, scratch, slots, start, count)


def _entries(buffers: KVCache | Scratch) -> jax.Array:
    """uint32[B, S or M]: hashes of the entries of a cache or scratch."""
    return buffers.keys[0][:, 0, :, 0]


def table_rows(model: TableModel, contexts: list[list[int]]) -> np.ndarray:
    """i64[contexts]: the row of the tables with the logits after each context."""
    codes = [
        entry_hash(np.asarray(context), np.arange(len(context))).sum(dtype=np.uint32)
        for context in contexts
    ]
    return (_mix(np.asarray(codes, np.uint32)) % np.uint32(model.codes)).astype(np.int64)


def reference_warp(
    logits: np.ndarray, temperature: float, top_k: int | None = None, top_p: float = 1.0
) -> np.ndarray:
    """Probabilities f64[..., V] of logits, by sorting; a reference for `rsd_jax.core.warp.Warp`."""
    x = np.asarray(logits, np.float64)
    if temperature == 0:
        return (np.argmax(x, -1)[..., None] == np.arange(x.shape[-1])).astype(np.float64)
    x = (x - x.max(-1, keepdims=True)) / temperature
    if top_k is not None and top_k < x.shape[-1]:
        x = np.where(x >= np.sort(x, -1)[..., -top_k, None], x, -np.inf)
    probs = np.exp(x) / np.exp(x).sum(-1, keepdims=True)
    if top_p < 1:
        order = np.argsort(probs, -1, kind="stable")
        ascending = np.take_along_axis(probs, order, -1)
        drop = np.cumsum(ascending, -1) <= 1 - top_p
        drop[..., -1] = False
        probs = np.where(np.take_along_axis(drop, np.argsort(order, -1), -1), 0.0, probs)
    return probs / probs.sum(-1, keepdims=True)


def sequence_law(
    model: TableModel,
    params: Params,
    prompt: list[int],
    num_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
) -> np.ndarray:
    """The exact law of the next tokens under autoregressive decoding, in float64.

    Returns:
      f64[V, ..., V] with `num_tokens` axes: probability of each continuation of `prompt`.
    """
    vocab = model.vocab_size
    tables = np.asarray(params["tables"]).sum(axis=(0, 1), dtype=np.float32)
    known = entry_hash(np.asarray(prompt), np.arange(len(prompt)))
    codes, law = known.sum(dtype=np.uint32, keepdims=True), np.ones(1)
    for step in range(num_tokens):
        rows = (_mix(codes) % np.uint32(model.codes)).astype(np.int64)
        probs = reference_warp(tables[rows], temperature, top_k, top_p)
        law = (law[:, None] * probs).reshape(-1)
        position = np.full(vocab, len(prompt) + step)
        codes = (codes[:, None] + entry_hash(np.arange(vocab), position)[None]).reshape(-1)
    return law.reshape((vocab,) * num_tokens)
