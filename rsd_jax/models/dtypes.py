"""Names of the floating types that models can have."""

from typing import Any

import jax.numpy as jnp

from rsd_jax.core.backend import CPU, Backend
from rsd_jax.errors import ConfigError

_NAMES = {"float32": "float32", "fp32": "float32", "bfloat16": "bfloat16", "bf16": "bfloat16"}
_AUTO = "auto"


def dtype_name(dtype: Any, backend: Backend) -> str:
    """ "float32" or "bfloat16", for what a user gives as the type of a model.

    Args:
      dtype: a name, also "fp32" or "bf16"; a type of numpy, JAX or torch; "auto" or None for the
        type that suits the devices: float32 on a CPU, else bfloat16.
      backend: of the devices on which the parameters live.

    Raises:
      ConfigError: the type is another.
    """
    name = dtype
    if type(dtype).__module__.partition(".")[0] == "torch":
        name = str(dtype).removeprefix("torch.")
    if name is None or (isinstance(name, str) and name == _AUTO):
        return "float32" if backend == CPU else "bfloat16"
    if not isinstance(name, str):
        try:
            name = jnp.dtype(name).name
        except (TypeError, ValueError):
            name = ""
    if name not in _NAMES:
        raise ConfigError(
            f"dtype={dtype!r} is not supported; choose 'float32', 'bfloat16' or {_AUTO!r}"
        )
    return _NAMES[name]
