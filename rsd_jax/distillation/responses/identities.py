"""Identifies models, tokenizers and prompts in manifests, by hashes."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from rsd_jax.core.identity import weights_checksum
from rsd_jax.core.types import LoadedModel
from rsd_jax.errors import ConfigError
from rsd_jax.records.json_objects import json_sha256


def manifest_identity(loaded: LoadedModel) -> dict[str, Any]:
    """Vocabulary, configuration (None for models without one), dtype and weights, for JSON."""
    config = getattr(loaded.model, "config", None)
    return {
        "vocab_size": loaded.model.vocab_size,
        "config": dataclasses.asdict(config) if config is not None else None,
        "dtype": loaded.model.dtype,
        "weights": weights_checksum(loaded.params),
    }


def tokenizer_identity(tokenizer: Any, vocab_size: int) -> str:
    """SHA-256 of the vocabulary (tokens and ids); tokenizers with equal hashes can share data.

    Args:
      tokenizer: of `tokenizers` or `transformers`: anything with `get_vocab`.
      vocab_size: of the model; may be larger than the tokenizer's vocabulary.

    Raises:
      ConfigError: the tokenizer has an id outside the model's vocabulary.
    """
    check_tokenizer_fits(tokenizer, vocab_size)
    return json_sha256(sorted(tokenizer.get_vocab().items()))


def check_tokenizer_fits(tokenizer: Any, vocab_size: int) -> None:
    """Raises `ConfigError` if the tokenizer has an id outside a model's vocabulary."""
    largest = max(tokenizer.get_vocab().values())
    if largest >= vocab_size:
        raise ConfigError(
            f"the tokenizer has token id {largest}, but the model's vocab_size is {vocab_size}; "
            "give the model's own tokenizer"
        )


def prompts_identity(prompts: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """The number of prompts and the SHA-256 of their names and tokens in order, for JSON."""
    listed = [[name, [int(token) for token in tokens]] for name, tokens in prompts.items()]
    return {"count": len(listed), "sha256": json_sha256(listed)}
