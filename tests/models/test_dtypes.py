"""The types that users give for a model: names, types of libraries, and none."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsd_jax.core.backend import ACCELERATOR, CPU
from rsd_jax.errors import ConfigError
from rsd_jax.models import dtypes
from rsd_jax.models.checkpoint import save_model
from rsd_jax.models.dtypes import computed_dtype, dtype_name
from rsd_jax.models.loading import build_model, load_model
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


def _computed(dtype, asked=None, backend=CPU, num_parameters=10):
    return computed_dtype(dtype, asked, backend=backend, num_parameters=num_parameters)


def test_bfloat16_on_a_cpu_is_computed_in_float32(tmp_path, monkeypatch):
    with pytest.warns(UserWarning, match=r"kept and computed with in float32 \(0\.0 GB\)"):
        assert _computed("bfloat16") == "float32"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert _computed("bfloat16", backend=ACCELERATOR) == "bfloat16"
        assert _computed("float32") == "float32"
        assert _computed("bfloat16", "bf16") == "bfloat16"
        assert _computed("bfloat16", "float32", ACCELERATOR) == "float32"
        assert _computed("float32", "auto") == "float32"
    with pytest.raises(ConfigError, match="compute_dtype='bfloat16' would round the weights"):
        _computed("float32", "bfloat16")
    memory = tmp_path / "meminfo"
    memory.write_text("MemTotal: 9000 kB\nMemAvailable:    2000 kB\n")
    monkeypatch.setattr(dtypes, "_MEMORY", memory)
    with pytest.warns(UserWarning, match=r"2\.1 GB .* do not fit in 0\.0 GB of free memory"):
        assert _computed("bfloat16", num_parameters=519_000_000) == "bfloat16"
    with pytest.warns(UserWarning, match="kept and computed with in float32"):
        assert _computed("bfloat16", num_parameters=500_000) == "float32"
    monkeypatch.setattr(dtypes, "_MEMORY", tmp_path / "nowhere")  # not Linux
    with pytest.warns(UserWarning, match="kept and computed with in float32"):
        assert _computed("bfloat16", num_parameters=519_000_000) == "float32"


@pytest.mark.filterwarnings("ignore:bfloat16 on a CPU")
def test_a_model_loaded_in_bfloat16_on_a_cpu_has_its_rounded_weights(tmp_path):
    model = build_model(TINY_CONFIG, dtype="float32")
    params = model.init_params(jax.random.key(0))
    save_model(tmp_path, TINY_CONFIG, params, dtype="float32")
    whole, kept = (load_model(tmp_path, dtype="bf16", compute_dtype=c) for c in (None, "bfloat16"))
    assert (whole.model.dtype, kept.model.dtype) == ("float32", "bfloat16")
    for ours, theirs in zip(*map(jax.tree.leaves, (whole.params, kept.params)), strict=True):
        assert (ours.dtype, theirs.dtype) == (jnp.float32, jnp.bfloat16)
        assert (ours == theirs.astype(jnp.float32)).all()
