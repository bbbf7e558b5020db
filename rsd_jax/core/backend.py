"""What programs do differently on a CPU and on an accelerator; all of it is chosen here."""

import dataclasses
from typing import NamedTuple

import jax

from rsd_jax.core.sharding import MeshLayout


class PrefixReads(NamedTuple):
    """How attention reads the committed prefix; static.

    Attributes:
      chunk: positions read at once, in a loop that ends with the live prefix.
      whole_up_to: a buffer of at most this capacity is read whole, without a loop.
    """

    chunk: int
    whole_up_to: int


@dataclasses.dataclass(frozen=True)
class Backend:
    """How programs are written for the devices that run them; hashable.

    Attributes:
      reads: how attention reads the committed prefix. On an accelerator a loop costs more than a
        masked read of a short buffer; on a CPU the whole read copies the buffer.
      all_nodes: whether a verifier tests all nodes of a tree at once, or only the nodes that it
        reaches. All nodes take few, wide steps and no loop whose end depends on the data; the
        reached nodes take fewer reads. On a CPU the reached nodes are faster (two cores, RSD-S
        6x5, V = 32000: 3.6 times at batch 1, 2.5 times at batch 8). On an accelerator the host
        would wait for the condition of every step.
      few_rows: whether products of few rows are written for XLA's compiler for CPUs
        (`models/products.py`). On a mesh of several CPUs they would split what the mesh splits.
    """

    reads: PrefixReads
    all_nodes: bool
    few_rows: bool = False


CPU = Backend(PrefixReads(chunk=128, whole_up_to=0), all_nodes=False, few_rows=True)
CPU_MESH = dataclasses.replace(CPU, few_rows=False)
ACCELERATOR = Backend(PrefixReads(chunk=1024, whole_up_to=1024), all_nodes=True)


def backend_of(layout: MeshLayout | None) -> Backend:
    """The choices for a model that lives on a mesh, or is compiled for one.

    Args:
      layout: of the mesh, whose devices need not be attached (see `jax.experimental.topologies`);
        None for the one device on which JAX puts new arrays.
    """
    here = jax.device_put(0.0).devices() if layout is None else layout.mesh.devices.flat
    devices = list(here)
    if not all(device.platform == "cpu" for device in devices):
        return ACCELERATOR
    return CPU if len(devices) == 1 else CPU_MESH
