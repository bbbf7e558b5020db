"""The types that users give for a model: names, types of libraries, and none."""

import jax.numpy as jnp
import numpy as np
import pytest

from rsd_jax.core.backend import ACCELERATOR, CPU
from rsd_jax.errors import ConfigError
from rsd_jax.models.dtypes import dtype_name
from rsd_jax.models.loading import build_model
from rsd_jax.testing.tiny_llama import TINY_CONFIG


def test_every_spelling_is_accepted():
    import torch

    for given in ("float32", "fp32", np.float32, np.dtype("float32"), jnp.float32, torch.float32):
        assert dtype_name(given, ACCELERATOR) == "float32"
    for given in ("bfloat16", "bf16", jnp.bfloat16, jnp.dtype("bfloat16"), torch.bfloat16):
        assert dtype_name(given, CPU) == "bfloat16"
    for given in ("auto", None):
        assert (dtype_name(given, CPU), dtype_name(given, ACCELERATOR)) == ("float32", "bfloat16")
        assert build_model(TINY_CONFIG, dtype=given).dtype == "float32"


def test_anything_else_is_one_error():
    import torch

    for given in ("float16", "half", torch.float16, np.int32, "", 16, ["bf16"], object()):
        with pytest.raises(ConfigError, match="is not supported; choose 'float32', 'bfloat16' or"):
            dtype_name(given, CPU)
