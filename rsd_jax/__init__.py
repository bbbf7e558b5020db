"""Lossless tree-based speculative decoding of Llama-class models in JAX."""

import importlib
from typing import TYPE_CHECKING, Any

from rsd_jax.errors import CheckpointError, ConfigError, NonFiniteLogitsError
from rsd_jax.version import __version__

if TYPE_CHECKING:
    from rsd_jax.api import LoadedPair, load_model, load_pair
    from rsd_jax.generation import generate, stream
    from rsd_jax.job import LoadedModel
    from rsd_jax.methods import Method, build_method
    from rsd_jax.results import GenerateResult, GenerateStats

__all__ = [
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
    "generate",
    "load_model",
    "load_pair",
    "stream",
]

# Imported when they are first asked for: rows are read and drawn without JAX.
_MODULES = {
    "GenerateResult": "results",
    "GenerateStats": "results",
    "LoadedModel": "job",
    "LoadedPair": "api",
    "Method": "methods",
    "build_method": "methods",
    "generate": "generation",
    "load_model": "api",
    "load_pair": "api",
    "stream": "generation",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
