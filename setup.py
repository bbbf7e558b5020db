"""Package definition of rsd_jax; tool settings are in pyproject.toml."""

import pathlib
import re

from setuptools import find_packages, setup

_ROOT = pathlib.Path(__file__).parent
_VERSION = re.search(r'__version__ = "(.+)"', (_ROOT / "rsd_jax/version.py").read_text())
assert _VERSION is not None

_JAX = "jax>=0.10,<0.13"

# Without TensorFlow; 4.9.9 cannot read with today's protobuf. The last is what tensorflow-datasets
# writes with and does not ask for.
_DATASETS = ["tensorflow-datasets>=4.9.10", "array_record>=0.5", "importlib_resources>=6"]

setup(
    name="rsd_jax",
    version=_VERSION[1],
    description="Lossless tree-based speculative decoding of Llama-class models in JAX",
    long_description=(_ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["rsd_jax", "rsd_jax.*"]),
    package_data={"rsd_jax": ["assets/**/*", "py.typed"]},
    install_requires=[
        _JAX,
        "flax>=0.12",
        "num2words>=0.5.10,<0.6",
        "numpy>=2.0",
        "rouge-score>=0.1.2,<0.2",
        "sacrebleu>=2.4,<3",
        "safetensors>=0.5",
        "tokenizers>=0.20",
        "transformers>=4.45",
        "optax>=0.2.7",
        "orbax-checkpoint>=0.11",
        "ml-collections>=1.0",
        "matplotlib>=3.8",
        "tqdm>=4.66",
        "bayesian-optimization>=3,<4",
    ],
    extras_require={
        "cuda": [_JAX.replace("jax", "jax[cuda13]", 1)],
        "tpu": [_JAX.replace("jax", "jax[tpu]", 1)],
        "datasets": _DATASETS,
        # torch is compared with, on the CPU; the README says how to get a build without CUDA.
        "test": [
            "pytest>=8",
            "pytest-xdist>=3.5",
            "ruff>=0.17,<0.18",
            "mypy>=1.11",
            "scipy>=1.11",
            "torch>=2.2,<2.14",
            *_DATASETS,
        ],
    },
)
