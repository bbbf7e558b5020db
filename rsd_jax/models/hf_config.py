"""Hugging Face's config.json of a `LlamaForCausalLM`, as transformers 4 and 5 write it.

The reader is strict: a key or value that may change the model's outputs, and that this Llama does
not implement, is an error that names the key.
"""

from collections.abc import Mapping
from typing import Any

from rsd_jax.errors import ConfigError
from rsd_jax.models.config import ROPE_KINDS, LlamaConfig, RopeConfig

# Keys that are read below.
_READ_KEYS = frozenset(
    {
        "architectures",
        "model_type",
        "hidden_act",
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "max_position_embeddings",
        "rms_norm_eps",
        "rope_theta",
        "rope_scaling",
        "rope_parameters",
        "partial_rotary_factor",
        "attention_bias",
        "mlp_bias",
        "tie_word_embeddings",
        "bos_token_id",
        "eos_token_id",
    }
)
# Keys that do not change the logits: bookkeeping of libraries, settings of training, the order of
# summation (pretraining_tp), and defaults of transformers' sampling.
_INERT_KEYS = frozenset(
    {
        "_attn_implementation_autoset",
        "_name_or_path",
        "attention_dropout",
        "chunk_size_feed_forward",
        "do_sample",
        "dtype",
        "id2label",
        "initializer_range",
        "is_llama_config",
        "label2id",
        "max_length",
        "max_sequence_length",
        "output_attentions",
        "output_hidden_states",
        "pad_token_id",
        "pretraining_tp",
        "problem_type",
        "repetition_penalty",
        "return_dict",
        "temperature",
        "tokenizer_class",
        "top_k",
        "top_p",
        "torch_dtype",
        "transformers.js_config",
        "transformers_version",
        "unk_token_id",
        "unsloth_fixed",
        "unsloth_version",
        "use_cache",
    }
)


def _number(raw: Mapping[str, Any], key: str, kind: type, default: Any = None) -> Any:
    """raw[key] as an int or float; if absent or null, `default`, or an error without a default."""
    value = raw.get(key)
    if value is None:
        if default is None:
            raise ConfigError(f"config.json lacks the key {key!r}")
        return default
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not (whole or (kind is float and isinstance(value, float))):
        expected = "a whole number" if kind is int else "a number"
        raise ConfigError(f"config.json sets {key}={value!r}; expected {expected}")
    return kind(value)


def _flag(raw: Mapping[str, Any], key: str) -> bool:
    value = raw.get(key)
    if not isinstance(value, bool | None):
        raise ConfigError(f"config.json sets {key}={value!r}; expected true or false")
    return bool(value)


def _ids(raw: Mapping[str, Any], key: str, default: int) -> tuple[int, ...]:
    """Token ids of a key that holds an id, a list of ids or null; an absent key gives `default`.

    Negative ids, which some files use for "none", are dropped.
    """
    value = raw.get(key, default)
    values = value if isinstance(value, list | tuple) else [] if value is None else [value]
    if not all(isinstance(i, int) and not isinstance(i, bool) for i in values):
        raise ConfigError(f"config.json sets {key}={value!r}; expected token ids")
    return tuple(i for i in values if i >= 0)


def _one_of(first: Any, second: Any, what: str) -> Any:
    """The value that is set; two different values are an error, as readers would differ."""
    if first is not None and second is not None and first != second:
        raise ConfigError(f"config.json sets {what} twice, to {first!r} and {second!r}; keep one")
    return second if first is None else first


def _rope_section(raw: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """rope_scaling (version 4) or rope_parameters (version 5) with the top-level keys merged in."""
    section = raw.get(name) or {}
    if not isinstance(section, Mapping):
        raise ConfigError(f"config.json sets {name}={section!r}; expected an object")
    if not section:
        return None
    section = {key: value for key, value in section.items() if value is not None}
    old_spelling = section.pop("type", "default")  # before version 4.43
    section.setdefault("rope_type", old_spelling)
    for key in ("rope_theta", "partial_rotary_factor"):
        section[key] = _one_of(section.get(key), raw.get(key), key)
    return section


def _rope_from_hf(raw: Mapping[str, Any], max_positions: int) -> RopeConfig:
    sections = _rope_section(raw, "rope_parameters"), _rope_section(raw, "rope_scaling")
    section = _one_of(*sections, "the rotary embedding (rope_parameters and rope_scaling)") or {
        "rope_type": "default",
        "rope_theta": raw.get("rope_theta"),
        "partial_rotary_factor": raw.get("partial_rotary_factor"),
    }
    kind = section["rope_type"]
    if kind not in ROPE_KINDS:
        raise ConfigError(f"rope_type={kind!r} is not supported; supported: {list(ROPE_KINDS)}")
    if section["partial_rotary_factor"] not in (None, 1.0):
        value = section["partial_rotary_factor"]
        raise ConfigError(f"partial_rotary_factor={value!r} is not supported; only 1.0 is")
    fields: dict[str, Any] = {"kind": kind, "theta": _number(section, "rope_theta", float, 10000.0)}
    used = {"rope_type", "rope_theta", "partial_rotary_factor", "original_max_position_embeddings"}
    if kind != "default":
        used |= {"factor"}
        fields["factor"] = _number(section, "factor", float)
    if kind == "llama3":
        used |= {"low_freq_factor", "high_freq_factor"}
        fields["low_freq_factor"] = _number(section, "low_freq_factor", float)
        fields["high_freq_factor"] = _number(section, "high_freq_factor", float)
        fields["original_max_position"] = _number(
            section, "original_max_position_embeddings", int, max_positions
        )
    leftover = sorted(set(section) - used)
    if leftover:
        raise ConfigError(f"the rope keys {leftover} are not supported for rope_type={kind!r}")
    return RopeConfig(**fields)


def _check_kind(raw: Mapping[str, Any], kind: type[LlamaConfig]) -> None:
    """Raises `ConfigError` unless the file describes a plain model with a language-model head."""
    if raw.get("model_type") != kind.model_type:
        raise ConfigError(f"model_type={raw.get('model_type')!r} must be {kind.model_type!r}")
    names = raw.get("architectures") or [kind.architecture]
    if not any(str(name).lower() == kind.architecture.lower() for name in names):
        raise ConfigError(f"architectures={names!r} is not supported; only {kind.architecture} is")
    if raw.get("hidden_act", "silu") not in ("silu", "swish"):
        raise ConfigError(f"hidden_act={raw['hidden_act']!r} is not supported; only 'silu' is")
    # An unknown key may change the outputs, unless it is switched off.
    for key, value in raw.items():
        if key not in _READ_KEYS | _INERT_KEYS and value:
            raise ConfigError(
                f"config.json sets {key}={value!r}, which this model does not implement; remove "
                "the key if it does not change the model's outputs"
            )


def config_from_hf(raw: Mapping[str, Any], kind: type[LlamaConfig] = LlamaConfig) -> LlamaConfig:
    """Builds a `LlamaConfig` from the contents of a Hugging Face config.json.

    `kind` is the configuration class of a family whose config.json has Llama's keys.

    Absent optional keys take the defaults of transformers' `LlamaConfig`; the five sizes of the
    model are required.

    Raises:
      ConfigError: a required key is missing, a value has the wrong type, or a value that would
        change the model's outputs is not supported. The message names the key.
    """
    _check_kind(raw, kind)
    heads, hidden = _number(raw, "num_attention_heads", int), _number(raw, "hidden_size", int)
    if raw.get("head_dim") is None and (heads < 1 or hidden % heads):
        raise ConfigError(
            f"hidden_size={hidden} is not a multiple of num_attention_heads={heads}; set head_dim"
        )
    max_positions = _number(raw, "max_position_embeddings", int, 2048)
    bos = _ids(raw, "bos_token_id", 1)
    return kind(
        vocab_size=_number(raw, "vocab_size", int),
        hidden_size=hidden,
        intermediate_size=_number(raw, "intermediate_size", int),
        num_layers=_number(raw, "num_hidden_layers", int),
        num_heads=heads,
        num_kv_heads=_number(raw, "num_key_value_heads", int, heads),
        head_dim=_number(raw, "head_dim", int, hidden // max(heads, 1)),
        max_positions=max_positions,
        norm_eps=_number(raw, "rms_norm_eps", float, 1e-6),
        rope=_rope_from_hf(raw, max_positions),
        attention_bias=_flag(raw, "attention_bias"),
        mlp_bias=_flag(raw, "mlp_bias"),
        tied_embeddings=_flag(raw, "tie_word_embeddings"),
        bos_id=bos[0] if bos else None,
        eos_ids=_ids(raw, "eos_token_id", 2),
    )


def config_to_hf(config: LlamaConfig) -> dict[str, Any]:
    """The config.json of a Llama for transformers 4 and 5, in the form of version 4.

    Version 5 also reads version 4's rope_theta and rope_scaling, while version 4 silently ignores
    version 5's rope_parameters.
    """
    rope = config.rope
    scaling: dict[str, Any] = {"rope_type": rope.kind, "factor": rope.factor}
    if rope.kind == "llama3":
        scaling |= {
            "low_freq_factor": rope.low_freq_factor,
            "high_freq_factor": rope.high_freq_factor,
            "original_max_position_embeddings": rope.original_max_position,
        }
    eos: int | list[int] | None = list(config.eos_ids) or None
    if len(config.eos_ids) == 1:
        eos = config.eos_ids[0]
    return {
        "architectures": [config.architecture],
        "model_type": config.model_type,
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
        "rope_scaling": None if rope.kind == "default" else scaling,
        "attention_bias": config.attention_bias,
        "mlp_bias": config.mlp_bias,
        "tie_word_embeddings": config.tied_embeddings,
        "bos_token_id": config.bos_id,
        "eos_token_id": eos,
    }
