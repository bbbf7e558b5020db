"""Lossless tree-based speculative decoding of Llama-class models in JAX."""

import importlib
from typing import TYPE_CHECKING, Any

from rsd_jax.errors import CheckpointError, ConfigError, NonFiniteLogitsError
from rsd_jax.version import __version__

if TYPE_CHECKING:
    from rsd_jax.core.types import LoadedModel
    from rsd_jax.engine.generation import generate, stream
    from rsd_jax.engine.methods import Method, build_method
    from rsd_jax.engine.results import GenerateResult, GenerateStats
    from rsd_jax.models.loading import load_model
    from rsd_jax.models.pairs import LoadedPair, load_pair
    from rsd_jax.models.shared_tokens import share_tokens
    from rsd_jax.records.blocks import BlockRecord
    from rsd_jax.text.prompts import encode_prompts
    from rsd_jax.text.streaming import stream_text

__all__ = [
    "BlockRecord",
    "CheckpointError",
    "ConfigError",
    "GenerateResult",
    "GenerateStats",
    "LoadedModel",
    "LoadedPair",
    "Method",
    "NonFiniteLogitsError",
    "__version__",
    "build_method",
    "encode_prompts",
    "generate",
    "load_model",
    "load_pair",
    "share_tokens",
    "stream",
    "stream_text",
]

# These names are imported on first use, so that rows can be read and drawn without JAX.
_MODULES = {
    "BlockRecord": "records.blocks",
    "GenerateResult": "engine.results",
    "GenerateStats": "engine.results",
    "LoadedModel": "core.types",
    "LoadedPair": "models.pairs",
    "Method": "engine.methods",
    "build_method": "engine.methods",
    "encode_prompts": "text.prompts",
    "generate": "engine.generation",
    "load_model": "models.loading",
    "load_pair": "models.pairs",
    "share_tokens": "models.shared_tokens",
    "stream": "engine.generation",
    "stream_text": "text.streaming",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
