"""Lossless tree-based speculative decoding of Llama-class models in JAX."""

from rsd_jax.api import LoadedPair, load_model, load_pair
from rsd_jax.errors import CheckpointError, ConfigError, NonFiniteLogitsError
from rsd_jax.generation import generate, stream
from rsd_jax.job import LoadedModel
from rsd_jax.methods import Method, build_method
from rsd_jax.results import GenerateResult, GenerateStats
from rsd_jax.version import __version__

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
