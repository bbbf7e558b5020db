"""Hardware and software of a measurement, without anything that identifies machine or person."""

import dataclasses
import importlib.metadata
import os
import pathlib
import platform

from rsd_jax.version import __version__

_LIBRARIES = ("jax", "jaxlib", "flax", "numpy")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hardware:
    """The processor and the accelerator.

    Attributes:
      cpu: model name of the processor.
      cores: cores that the process may use.
      backend: jax's backend: "cpu", "gpu" or "tpu".
      device: jax's name for the kind of accelerator.
      num_devices: devices that jax sees.
    """

    cpu: str
    cores: int
    backend: str
    device: str
    num_devices: int

    @classmethod
    def current(cls) -> "Hardware":
        """The hardware of this machine; starts jax's backend."""
        import jax

        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        return cls(
            cpu=cpu_model(),
            cores=cores or 1,
            backend=jax.default_backend(),
            device=jax.devices()[0].device_kind,
            num_devices=jax.device_count(),
        )


def current_versions(*others: str) -> dict[str, str]:
    """Versions of python, rsd_jax, the libraries that affect results, and `others`."""
    installed = {name: importlib.metadata.version(name) for name in (*_LIBRARIES, *others)}
    return {"python": platform.python_version(), "rsd_jax": __version__, **installed}


def cpu_model() -> str:
    """Model name of the processor, or what the system gives instead."""
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    for line in text.splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
