"""What a model, a tokenizer or a list of prompts is, in a few characters: for manifests."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from rsd_jax.core.types import LoadedModel, Params
from rsd_jax.errors import ConfigError


def weights_checksum(params: Params) -> str:
    """SHA-256 in hexadecimal of names, dtypes, shapes and values; one leaf at a time on the host.

    The same on one device and on a mesh.
    """
    digest = hashlib.sha256()
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    for path, leaf in leaves:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        array = np.ascontiguousarray(leaf)
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def model_identity(loaded: LoadedModel) -> dict[str, Any]:
    """Vocabulary, configuration (None for models without one), dtype and weights, for JSON."""
    config = getattr(loaded.model, "config", None)
    return {
        "vocab_size": loaded.model.vocab_size,
        "config": dataclasses.asdict(config) if config is not None else None,
        "dtype": loaded.model.dtype,
        "weights": weights_checksum(loaded.params),
    }


def tokenizer_identity(tokenizer: Any, vocab_size: int) -> str:
    """SHA-256 of which token has which id: tokenizers that agree on it share training data.

    Args:
      tokenizer: of `tokenizers` or `transformers`: anything with `get_vocab`.
      vocab_size: ids that the model knows; it may know more than the tokenizer has.

    Raises:
      ConfigError: the tokenizer has an id that the model does not know.
    """
    vocab = tokenizer.get_vocab()
    largest = max(vocab.values())
    if largest >= vocab_size:
        raise ConfigError(
            f"the tokenizer has token id {largest}, but the model's vocab_size is {vocab_size}; "
            "give the model's own tokenizer"
        )
    return _digest(sorted(vocab.items()))


def prompts_identity(prompts: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """How many prompts, and the SHA-256 of their names and tokens in order, for JSON."""
    listed = [[name, [int(token) for token in tokens]] for name, tokens in prompts.items()]
    return {"count": len(listed), "sha256": _digest(listed)}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
