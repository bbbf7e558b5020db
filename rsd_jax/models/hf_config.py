"""Hugging Face's config.json of a `LlamaForCausalLM`, as transformers 4 and 5 write it.

The reader is strict: a key or value that changes the model's outputs in transformers, and that this
Llama does not implement, is an error that names the key (`config_keys`).

The classes of transformers do not read the file here: a size that is absent becomes that of the 7B
model, of two different values of rope_theta one wins, a factor of "2" stays text, and version 5
alone knows rope_parameters. Each would have to be checked before.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from rsd_jax.errors import ConfigError
from rsd_jax.models.config import ROPE_KINDS, LlamaConfig, RopeConfig
from rsd_jax.models.config_keys import INERT, PLAIN, ConfigKeys
from rsd_jax.models.config_values import EOS_KEY, flag, ids_of, ids_value, number

WINDOW_KEY = "sliding_window"
# Keys that are read below.
READ_KEYS = frozenset(
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
# Besides the keys that are inert in every family: the order of summation, and marks of old files.
_INERT_KEYS = INERT | {"is_llama_config", "pretraining_tp"}
LLAMA_KEYS = ConfigKeys(READ_KEYS, _INERT_KEYS, PLAIN)


@dataclasses.dataclass(frozen=True)
class Defaults:
    """Values of absent keys, those of the family's class in transformers.

    Attributes:
      num_kv_heads, head_dim: None: follow from the other sizes.
      max_positions, bos_id, eos_id: see `LlamaConfig`; None: no such token.
    """

    num_kv_heads: int | None = None
    head_dim: int | None = None
    max_positions: int = 2048
    bos_id: int | None = 1
    eos_id: int | None = 2


LLAMA_DEFAULTS = Defaults()


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


def _rope_values(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the rotary embedding, under the names of version 5."""
    sections = _rope_section(raw, "rope_parameters"), _rope_section(raw, "rope_scaling")
    return _one_of(*sections, "the rotary embedding (rope_parameters and rope_scaling)") or {
        "rope_type": "default",
        "rope_theta": raw.get("rope_theta"),
        "partial_rotary_factor": raw.get("partial_rotary_factor"),
    }


def _rope_refusals(section: Mapping[str, Any]) -> list[str]:
    """What this Llama's rotary embedding does not implement."""
    refused = []
    kind, partial = section["rope_type"], section["partial_rotary_factor"]
    if kind not in ROPE_KINDS:
        refused.append(f"rope_type={kind!r} is not supported; supported: {list(ROPE_KINDS)}")
    if partial not in (None, 1.0):
        refused.append(f"partial_rotary_factor={partial!r} is not supported; only 1.0 is")
    used = {"rope_type", "rope_theta", "partial_rotary_factor", "original_max_position_embeddings"}
    # Some files write a factor that changes nothing.
    used |= {"factor"} if kind != "default" or section.get("factor") == 1.0 else set()
    used |= {"low_freq_factor", "high_freq_factor"} if kind == "llama3" else set()
    if kind in ROPE_KINDS and (leftover := sorted(set(section) - used)):
        refused.append(f"the rope keys {leftover} are not supported for rope_type={kind!r}")
    return refused


def _rope_from_hf(section: Mapping[str, Any], max_positions: int) -> RopeConfig:
    """The rotary embedding of values that are not refused."""
    kind = section["rope_type"]
    fields: dict[str, Any] = {"kind": kind, "theta": number(section, "rope_theta", float, 10000.0)}
    if kind != "default":
        fields["factor"] = number(section, "factor", float)
    if kind == "llama3":
        fields["low_freq_factor"] = number(section, "low_freq_factor", float)
        fields["high_freq_factor"] = number(section, "high_freq_factor", float)
        fields["original_max_position"] = number(
            section, "original_max_position_embeddings", int, max_positions
        )
    return RopeConfig(**fields)


def _check(
    raw: Mapping[str, Any], rope: Mapping[str, Any], kind: type[LlamaConfig], keys: ConfigKeys
) -> None:
    """Raises `ConfigError`, which names all that is refused, and warns of unknown keys."""
    refused = []
    if raw.get("hidden_act", "silu") not in ("silu", "swish"):
        refused.append(f"hidden_act={raw['hidden_act']!r} is not supported; only 'silu' is")
    refused += keys.refusals(raw, kind.model_type, kind.architecture) + _rope_refusals(rope)
    if refused:
        raise ConfigError("; ".join(refused))
    keys.warn_of_unknown(raw)


def config_from_hf(
    raw: Mapping[str, Any],
    kind: type[LlamaConfig] = LlamaConfig,
    keys: ConfigKeys = LLAMA_KEYS,
    defaults: Defaults = LLAMA_DEFAULTS,
) -> LlamaConfig:
    """Builds a `LlamaConfig` from the contents of a Hugging Face config.json.

    Warns of keys that transformers does not read for the family. `kind` is the configuration class
    of a family whose config.json has Llama's keys; `keys` says what the keys of the family mean.

    Absent optional keys take the `defaults`; the five sizes of the model are required.

    Raises:
      ConfigError: a required key is missing, a value has the wrong type, or a value that would
        change the model's outputs is not supported. The message names the key; if values are not
        supported, all such keys.
    """
    rope = _rope_values(raw)
    _check(raw, rope, kind, keys)
    heads, hidden = number(raw, "num_attention_heads", int), number(raw, "hidden_size", int)
    head_dim = raw.get("head_dim", defaults.head_dim)
    if head_dim is None and (heads < 1 or hidden % heads):
        raise ConfigError(
            f"hidden_size={hidden} is not a multiple of num_attention_heads={heads}; set head_dim"
        )
    max_positions = number(raw, "max_position_embeddings", int, defaults.max_positions)
    # Null stands for as many as there are query heads.
    kv_heads = {"num_key_value_heads": defaults.num_kv_heads} | dict(raw)
    bos = ids_of(raw, "bos_token_id", defaults.bos_id)
    return kind(
        vocab_size=number(raw, "vocab_size", int),
        hidden_size=hidden,
        intermediate_size=number(raw, "intermediate_size", int),
        num_layers=number(raw, "num_hidden_layers", int),
        num_heads=heads,
        num_kv_heads=number(kv_heads, "num_key_value_heads", int, heads),
        head_dim=number({"head_dim": head_dim}, "head_dim", int, hidden // max(heads, 1)),
        max_positions=max_positions,
        norm_eps=number(raw, "rms_norm_eps", float, 1e-6),
        rope=_rope_from_hf(rope, max_positions),
        attention_bias="attention_bias" in keys.read and flag(raw, "attention_bias"),
        mlp_bias="mlp_bias" in keys.read and flag(raw, "mlp_bias"),
        tied_embeddings=flag(raw, "tie_word_embeddings"),
        bos_id=bos[0] if bos else None,
        eos_ids=ids_of(raw, EOS_KEY, defaults.eos_id),
    )


def limited_to_window(config: LlamaConfig, raw: Mapping[str, Any]) -> LlamaConfig:
    """The configuration with no more positions than its window of attention.

    A token sees at most `sliding_window` positions, the token's own included. Sequences that are no
    longer are computed as without a window.

    Args:
      config: of the model.
      raw: content of config.json; a window that is absent or null is none.

    Raises:
      ConfigError: the window is not a whole number.
    """
    window = number(raw, WINDOW_KEY, int, config.max_positions)
    return dataclasses.replace(config, max_positions=min(config.max_positions, window))


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
        EOS_KEY: ids_value(config.eos_ids),
    }
