"""The keys of config.json: those that are read, those that mean nothing, those that are refused."""

import dataclasses
import warnings
from collections.abc import Callable, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class ConfigKeys:
    """What the keys of a family's config.json mean.

    A key in none of the lists is not declared by the family's class in transformers, and its
    modelling code does not mention the key, so the key changes nothing there; a test compares.

    Attributes:
      read: keys that the reader of the family reads, or checks itself.
      inert: keys that do not change the logits.
      plain: keys that are refused, each with a test for the values that change nothing.
    """

    read: frozenset[str]
    inert: frozenset[str]
    plain: Mapping[str, Callable[[Any], bool]]

    def refusals(self, raw: Mapping[str, Any], model_type: str, architecture: str) -> list[str]:
        """What is refused in the content of a config.json, each with the key and its value.

        Args:
          raw: content of config.json.
          model_type: of the family.
          architecture: name of the family's class in transformers.
        """
        refused = []
        if raw.get("model_type") != model_type:
            refused.append(f"model_type={raw.get('model_type')!r} must be {model_type!r}")
        names = raw.get("architectures") or [architecture]
        listed = names if isinstance(names, list | tuple) else [names]
        if not any(str(name).lower() == architecture.lower() for name in listed):
            refused.append(f"architectures={names!r} is not supported; only {architecture} is")
        return refused + [
            f"{key}={raw[key]!r} is not implemented"
            for key, is_plain in self.plain.items()
            if key in raw and not is_plain(raw[key])
        ]

    def warn_of_unknown(self, raw: Mapping[str, Any]) -> None:
        """Warns once of all keys in none of the lists that are not switched off."""
        known = self.read | self.inert | set(self.plain)
        unknown = [key for key, value in raw.items() if key not in known and value]
        if unknown:
            warnings.warn(
                f"config.json sets {', '.join(unknown)}, which transformers does not read for this "
                "family; ignored here too",
                stacklevel=4,
            )


def _unset(value: Any) -> bool:
    return not value


def _full_attention(value: Any) -> bool:
    return value is None or (
        isinstance(value, list | tuple) and all(kind == "full_attention" for kind in value)
    )


# Refused in every family, whether its class declares the key or not. A cache of transformers reads
# the last two for any family.
PLAIN: dict[str, Callable[[Any], bool]] = {
    "quantization_config": _unset,
    "auto_map": _unset,
    "fusion_config": _unset,
    "is_causal": lambda value: value in (None, True),
    "layer_types": _full_attention,
    "is_encoder_decoder": _unset,
    "sliding_window": _unset,
    "attention_chunk_size": _unset,
}

# Of every family: bookkeeping of libraries, choices of an implementation, settings of training,
# defaults of transformers' sampling.
INERT = frozenset(
    {
        "_attn_implementation",
        "_attn_implementation_autoset",
        "_commit_hash",
        "_experts_implementation",
        "_model_name_or_path",
        "_name_or_path",
        "add_cross_attention",
        "attention_dropout",
        "attn_implementation",
        "bad_words_ids",
        "begin_suppress_tokens",
        "chunk_size_feed_forward",
        "cross_attention_hidden_size",
        "decoder_start_token_id",
        "diversity_penalty",
        "do_sample",
        "dtype",
        "early_stopping",
        "encoder_no_repeat_ngram_size",
        "exponential_decay_length_penalty",
        "finetuning_task",
        "forced_bos_token_id",
        "forced_eos_token_id",
        "id2label",
        "initializer_range",
        "is_decoder",
        "label2id",
        "length_penalty",
        "max_length",
        "max_sequence_length",
        "min_length",
        "no_repeat_ngram_size",
        "num_beam_groups",
        "num_beams",
        "num_return_sequences",
        "output_attentions",
        "output_hidden_states",
        "output_scores",
        "pad_token_id",
        "prefix",
        "problem_type",
        "pruned_heads",
        "remove_invalid_values",
        "repetition_penalty",
        "return_dict",
        "return_dict_in_generate",
        "sep_token_id",
        "suppress_tokens",
        "task_specific_params",
        "temperature",
        "tf_legacy_loss",
        "tie_encoder_decoder",
        "tokenizer_class",
        "top_k",
        "top_p",
        "torch_dtype",
        "torchscript",
        "transformers.js_config",
        "transformers_version",
        "typical_p",
        "unk_token_id",
        "unsloth_fixed",
        "unsloth_version",
        "use_bfloat16",
        "use_cache",
        "use_sdpa",
    }
)
