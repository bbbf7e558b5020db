"""Names of the floating types that models can have, and which of these to compute in."""

import pathlib
import re
import warnings
from typing import Any

import jax.numpy as jnp

from rsd_jax.core.backend import CPU, Backend
from rsd_jax.errors import ConfigError

_NAMES = {"float32": "float32", "fp32": "float32", "bfloat16": "bfloat16", "bf16": "bfloat16"}
_AUTO = "auto"
_MEMORY = pathlib.Path("/proc/meminfo")  # of Linux


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


def computed_dtype(dtype: str, compute_dtype: Any, *, backend: Backend, num_parameters: int) -> str:
    """The type in which a loaded model computes, and in which its parameters are in memory.

    CPUs multiply bfloat16 slowly: a program converts all weights to float32 each time it is
    entered. The weights are therefore converted once, if there is memory for twice their size; a
    warning says which of both happens. The values stay those of bfloat16.

    Args:
      dtype: "float32" or "bfloat16", the type to which the weights are rounded.
      compute_dtype: as in `load_model`.
      backend: of the devices on which the parameters live.
      num_parameters: of the model.

    Raises:
      ConfigError: `compute_dtype` is another type, or narrower than `dtype`.
    """
    if compute_dtype is not None:
        name = dtype_name(compute_dtype, backend)
        if name == "bfloat16" and dtype == "float32":
            raise ConfigError(
                "compute_dtype='bfloat16' would round the weights that dtype='float32' keeps; "
                "leave it out, or set dtype='bfloat16'"
            )
        return name
    if dtype == "float32" or backend != CPU:
        return dtype
    needed = 4 * num_parameters
    free = _free_memory()
    if free is not None and needed > free:
        warnings.warn(
            f"bfloat16 on a CPU is slow, and {needed / 1e9:.1f} GB for a copy of the weights in "
            f"float32 do not fit in {free / 1e9:.1f} GB of free memory",
            stacklevel=3,
        )
        return dtype
    warnings.warn(
        f"bfloat16 on a CPU is slow: the weights, rounded to bfloat16, are kept and computed with "
        f"in float32 ({needed / 1e9:.1f} GB); compute_dtype='bfloat16' keeps bfloat16",
        stacklevel=3,
    )
    return "float32"


def _free_memory() -> int | None:
    """Bytes that new arrays of the host may take; None if the system does not say."""
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB", _MEMORY.read_text(), re.MULTILINE)
    except OSError:
        return None
    return None if found is None else 1024 * int(found[1])
