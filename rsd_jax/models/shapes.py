"""Shapes of published models by name, for models with random weights."""

import functools
from typing import Any

from rsd_jax.models.config import LlamaConfig, RopeConfig
from rsd_jax.models.opt_config import OPTConfig
from rsd_jax.models.qwen import Qwen2Config, Qwen3Config


def _shape(
    vocab: int,
    hidden: int,
    mlp: int,
    layers: int,
    heads: int,
    kv_heads: int,
    kind: type[LlamaConfig] = LlamaConfig,
    **others: Any,
) -> LlamaConfig:
    ends: dict[str, Any] = {"head_dim": hidden // heads, "bos_id": 1, "eos_ids": (2,)}
    return kind(
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=mlp,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=kv_heads,
        **ends | others,
    )


_llama2 = functools.partial(_shape, 32000)
_smollm2 = functools.partial(
    _shape, 49152, rope=RopeConfig(theta=100000.0), max_positions=8192, tied_embeddings=True
)

_llama3 = functools.partial(
    _shape, 128256, max_positions=131072, bos_id=128000, eos_ids=(128001, 128008, 128009)
)


def _scaled(factor: float) -> RopeConfig:
    """The rotary embedding of Llama 3.1 and 3.2."""
    return RopeConfig(kind="llama3", theta=500000.0, factor=factor)


_qwen = functools.partial(
    _shape,
    rope=RopeConfig(theta=1000000.0),
    norm_eps=1e-6,
    bos_id=None,
    eos_ids=(151645, 151643),
)
_qwen2 = functools.partial(_qwen, kind=Qwen2Config, max_positions=32768)
_qwen3 = functools.partial(_qwen, 151936, kind=Qwen3Config, max_positions=40960, head_dim=128)


def _opt(hidden: int, layers: int, heads: int, **others: Any) -> OPTConfig:
    return OPTConfig(
        vocab_size=50272,
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_layers=layers,
        num_heads=heads,
        **{"embedding_size": hidden} | others,
    )


# Published shapes (Touvron et al. 2023, table 1; the 115M draft: Goel et al. 2024; OPT: Zhang et
# al. 2022; the others: config.json of the instruction-tuned models), each a `ModelConfig`. Our own
# choices: a draft of 10M for SmolLM2-135M, and a tiny pair with which measurements are rehearsed.
NAMED_CONFIGS: dict[str, Any] = {
    "llama2_7b": _llama2(4096, 11008, 32, 32, 32),
    "llama2_13b": _llama2(5120, 13824, 40, 40, 40),
    "llama2_70b": _llama2(8192, 28672, 80, 64, 8),
    "llama2_115m": _llama2(1024, 2816, 4, 8, 8),
    "llama3_1b": _llama3(2048, 8192, 16, 32, 8, rope=_scaled(32.0), tied_embeddings=True),
    "llama3_8b": _llama3(4096, 14336, 32, 32, 8, rope=_scaled(8.0)),
    "opt_125m": _opt(768, 12, 12),
    "opt_350m": _opt(1024, 24, 16, embedding_size=512, norm_before=False),
    "opt_1_3b": _opt(2048, 24, 32),
    "opt_6_7b": _opt(4096, 32, 32),
    "opt_13b": _opt(5120, 40, 40),
    "opt_30b": _opt(7168, 48, 56),
    "qwen2_500m": _qwen2(151936, 896, 4864, 24, 14, 2, tied_embeddings=True),
    "qwen2_7b": _qwen2(152064, 3584, 18944, 28, 28, 4),
    "qwen3_600m": _qwen3(1024, 3072, 28, 16, 8, tied_embeddings=True),
    "qwen3_8b": _qwen3(4096, 12288, 36, 32, 8),
    "smollm2_135m": _smollm2(576, 1536, 30, 9, 3),
    "smollm2_10m": _smollm2(192, 512, 2, 3, 1),
    "tiny_target": _shape(64, 32, 48, 3, 4, 2),
    "tiny_draft": _shape(64, 16, 24, 1, 2, 1),
}
