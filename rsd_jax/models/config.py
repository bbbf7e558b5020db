"""The static configuration of a Llama model, from and to Hugging Face's config.json."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from rsd_jax.errors import ConfigError

# Keys of a config.json that do not change the function computed at inference.
_INERT_KEYS = frozenset({
    "_name_or_path", "architectures", "attention_dropout", "auto_map", "bos_token_id", "dtype",
    "initializer_range", "model_type", "pad_token_id", "pretraining_tp", "tokenizer_class",
    "torch_dtype", "transformers_version", "use_cache", "max_length", "do_sample",
    "temperature", "top_p", "top_k", "unk_token_id", "output_attentions",
    "output_hidden_states", "return_dict", "chunk_size_feed_forward", "id2label", "label2id",
    "problem_type", "is_encoder_decoder", "max_sequence_length", "rope_interleaved",
})  # fmt: skip
_ROPE_KINDS = ("default", "linear", "llama3")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RopeConfig:
    """Rotary position embedding (Su et al. 2021) and its context-extension scalings.

    Attributes:
      kind: "default", "linear" (positions divided by `factor`) or "llama3" (Llama 3.1's
        frequency-dependent scaling).
      theta: the base of the geometric series of wavelengths.
      factor: the context extension factor; unused by "default".
      low_freq_factor, high_freq_factor, original_max_position: of "llama3" only.
    """

    kind: str = "default"
    theta: float = 10000.0
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position: int = 8192


@dataclasses.dataclass(frozen=True, kw_only=True)
class LlamaConfig:
    """Shape and constants of a Llama-class decoder; hashable, so programs can be keyed on it.

    Attributes:
      vocab_size: number of token ids, V.
      hidden_size: width of the residual stream.
      intermediate_size: width of the gated MLP.
      num_layers: number of decoder layers.
      num_heads: query heads.
      num_kv_heads: key/value heads, H; divides `num_heads`.
      head_dim: width of a head, K; even.
      max_positions: the longest sequence the model was made for, in tokens.
      norm_eps: epsilon of the RMS normalisation.
      rope: rotary embedding.
      attention_bias, mlp_bias: whether those projections carry a bias.
      tied_embeddings: whether the output head is the input embedding.
      bos_id: id that opens a document, or None.
      eos_ids: ids that end one; may be empty.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_positions: int = 4096
    norm_eps: float = 1e-5
    rope: RopeConfig = RopeConfig()
    attention_bias: bool = False
    mlp_bias: bool = False
    tied_embeddings: bool = False
    bos_id: int | None = None
    eos_ids: tuple[int, ...] = ()

    def __post_init__(self):
        if self.num_heads % self.num_kv_heads:
            raise ConfigError(
                f"num_attention_heads={self.num_heads} must be a multiple of "
                f"num_key_value_heads={self.num_kv_heads}"
            )
        if self.head_dim % 2:
            raise ConfigError(f"head_dim={self.head_dim} must be even for rotary embeddings")

    @property
    def num_parameters(self) -> int:
        """Number of scalar parameters, a tied head counted once."""
        d, m, heads = self.hidden_size, self.intermediate_size, self.num_heads + self.num_kv_heads
        attention = 2 * d * heads * self.head_dim
        if self.attention_bias:
            attention += (heads + self.num_kv_heads) * self.head_dim + d
        mlp = 3 * d * m + ((2 * m + d) if self.mlp_bias else 0)
        tables = self.vocab_size * d * (1 if self.tied_embeddings else 2)
        return self.num_layers * (attention + mlp + 2 * d) + d + tables

    @property
    def num_parameters_read(self) -> int:
        """Parameters that one decoding step reads: all but an untied input table (a gather)."""
        table = 0 if self.tied_embeddings else self.vocab_size * self.hidden_size
        return self.num_parameters - table


def _rope_from_hf(raw: Mapping[str, Any], max_positions: int) -> RopeConfig:
    """Reads both spellings: transformers 4 (rope_theta, rope_scaling) and 5 (rope_parameters)."""
    scaling = dict(raw.get("rope_parameters") or raw.get("rope_scaling") or {})
    theta = scaling.pop("rope_theta", raw.get("rope_theta", 10000.0))
    kind = scaling.pop("rope_type", scaling.pop("type", "default"))
    scaling.pop("type", None)
    if kind not in _ROPE_KINDS:
        raise ConfigError(f"rope_type={kind!r} is not supported; supported: {list(_ROPE_KINDS)}")
    partial = scaling.pop("partial_rotary_factor", raw.get("partial_rotary_factor", 1.0))
    if partial != 1.0:
        raise ConfigError(f"partial_rotary_factor={partial} is not supported; only 1.0 is")
    fields: dict[str, Any] = {"kind": kind, "theta": float(theta)}
    try:
        if kind != "default":
            fields["factor"] = float(scaling.pop("factor"))
        if kind == "llama3":
            fields["low_freq_factor"] = float(scaling.pop("low_freq_factor"))
            fields["high_freq_factor"] = float(scaling.pop("high_freq_factor"))
            fields["original_max_position"] = int(
                scaling.pop("original_max_position_embeddings", max_positions)
            )
    except KeyError as error:
        raise ConfigError(f"rope_scaling of type {kind!r} lacks the key {error}") from None
    scaling.pop("original_max_position_embeddings", None)
    leftover = {key: value for key, value in scaling.items() if value is not None}
    if leftover:
        raise ConfigError(f"rope_scaling keys {sorted(leftover)} are not supported for {kind!r}")
    return RopeConfig(**fields)


def _ids(value: Any) -> tuple[int, ...]:
    if value is None:
        return ()
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def config_from_hf(raw: Mapping[str, Any]) -> LlamaConfig:
    """Builds a `LlamaConfig` from the contents of a Hugging Face config.json.

    Raises:
      ConfigError: a required key is missing, or a key holds a value that would change the
        function computed and is not supported. The message names the key.
    """
    raw = dict(raw)
    if raw.get("model_type", "llama") != "llama":
        raise ConfigError(f"model_type={raw['model_type']!r} is not supported; only 'llama' is")
    if raw.get("hidden_act", "silu") not in ("silu", "swish"):
        raise ConfigError(f"hidden_act={raw['hidden_act']!r} is not supported; only 'silu' is")
    try:
        heads, hidden = int(raw["num_attention_heads"]), int(raw["hidden_size"])
        max_positions = int(raw.get("max_position_embeddings", 2048))
        bos = _ids(raw.get("bos_token_id"))
        config = LlamaConfig(
            vocab_size=int(raw["vocab_size"]),
            hidden_size=hidden,
            intermediate_size=int(raw["intermediate_size"]),
            num_layers=int(raw["num_hidden_layers"]),
            num_heads=heads,
            num_kv_heads=int(raw.get("num_key_value_heads") or heads),
            head_dim=int(raw.get("head_dim") or hidden // heads),
            max_positions=max_positions,
            norm_eps=float(raw.get("rms_norm_eps", 1e-6)),
            rope=_rope_from_hf(raw, max_positions),
            attention_bias=bool(raw.get("attention_bias", False)),
            mlp_bias=bool(raw.get("mlp_bias", False)),
            tied_embeddings=bool(raw.get("tie_word_embeddings", False)),
            bos_id=bos[0] if bos else None,
            eos_ids=_ids(raw.get("eos_token_id")),
        )
    except KeyError as error:
        raise ConfigError(f"config.json lacks the key {error}") from None
    known = _INERT_KEYS | set(config_to_hf(config)) | {
        "hidden_act", "rope_theta", "rope_scaling", "rope_parameters", "partial_rotary_factor",
        "head_dim", "eos_token_id",
    }  # fmt: skip
    # A key this reader has never heard of may change the function, unless it is switched off.
    unknown = {key: value for key, value in raw.items() if key not in known and value}
    if unknown:
        key, value = next(iter(unknown.items()))
        raise ConfigError(
            f"config.json sets {key}={value!r}, which this Llama does not implement; remove the "
            "key if it does not change the model's outputs"
        )
    return config


def config_to_hf(config: LlamaConfig) -> dict[str, Any]:
    """The config.json of a `LlamaForCausalLM`, readable by transformers 4 and 5."""
    rope = config.rope
    scaling: dict[str, Any] | None = None
    if rope.kind != "default":
        scaling = {"rope_type": rope.kind, "factor": rope.factor}
    if rope.kind == "llama3":
        assert scaling is not None
        scaling |= {
            "low_freq_factor": rope.low_freq_factor,
            "high_freq_factor": rope.high_freq_factor,
            "original_max_position_embeddings": rope.original_max_position,
        }
    eos: int | list[int] | None = list(config.eos_ids) or None
    if eos is not None and len(config.eos_ids) == 1:
        eos = config.eos_ids[0]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.max_positions,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": rope.theta,
        "rope_scaling": scaling,
        "attention_bias": config.attention_bias,
        "mlp_bias": config.mlp_bias,
        "tie_word_embeddings": config.tied_embeddings,
        "bos_token_id": config.bos_id,
        "eos_token_id": eos,
    }


def _llama2(hidden: int, mlp: int, layers: int, heads: int, kv_heads: int) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=32000, hidden_size=hidden, intermediate_size=mlp, num_layers=layers,
        num_heads=heads, num_kv_heads=kv_heads, head_dim=hidden // heads,
        bos_id=1, eos_ids=(2,),
    )  # fmt: skip


# Published shapes (Touvron et al. 2023, table 1; the 115M draft: Goel et al. 2024).
NAMED_CONFIGS: dict[str, LlamaConfig] = {
    "llama2_7b": _llama2(4096, 11008, 32, 32, 32),
    "llama2_13b": _llama2(5120, 13824, 40, 40, 40),
    "llama2_70b": _llama2(8192, 28672, 80, 64, 8),
    "llama2_115m": _llama2(1024, 2816, 4, 8, 8),
}
