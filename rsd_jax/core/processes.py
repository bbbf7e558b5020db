"""Several processes that run one program, on one mesh of all their devices (`jax.distributed`).

Every process takes the same steps, on the same prompts; the mesh splits the rows, and with them the
work, over the processes. What a host reads from the device is therefore gathered (`read`), and what
depends on files is read by the first process alone (`on_writer`), which is also the only one that
writes. With one process, both are what they are without.
"""

import contextlib
import pickle
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, ParamSpec, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

_P = ParamSpec("_P")
_R = TypeVar("_R")
_Tree = TypeVar("_Tree")


def is_writer() -> bool:
    """Whether this is the process that reads and writes files for all."""
    return jax.process_index() == 0


def read(tree: Any) -> Any:
    """The arrays of a tree on the host, as `jax.device_get`; all processes have to call it.

    Args:
      tree: leaves may be spread over the devices of all processes.
    """

    def gather(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable or leaf.is_fully_replicated:
            return leaf
        return multihost_utils.process_allgather(leaf, tiled=True)

    if jax.process_count() > 1:
        tree = jax.tree.map(gather, tree)
    return jax.device_get(tree)


def on_writer(function: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
    """Calls a function on the writer alone; its result, or its error, for every process.

    All processes have to call it, and wait for it.

    Args:
      function: its result and its errors can be pickled.
      *args, **kwargs: of the function.
    """
    if jax.process_count() == 1:
        return function(*args, **kwargs)
    outcome: tuple[Any, Exception | None] = (None, None)
    if is_writer():
        try:
            outcome = (function(*args, **kwargs), None)
        except Exception as error:
            outcome = (None, error)
    result, failure = _from_writer(outcome)
    if failure is not None:
        raise failure
    returned: _R = result
    return returned


def agreed(value: _Tree) -> _Tree:
    """The writer's value on every process, where hosts may compute slightly different ones."""
    return value if jax.process_count() == 1 else _from_writer(value)


@contextlib.contextmanager
def writer_holds(make: Callable[[], AbstractContextManager[Any]]) -> Iterator[None]:
    """Enters a context on the writer alone, such as a lock; its error is raised everywhere."""
    with contextlib.ExitStack() as stack:

        def enter() -> None:
            stack.enter_context(make())

        on_writer(enter)
        yield


def _from_writer(value: Any) -> Any:
    # Pickled bytes of our own processes; every process has to know their number first.
    sent = np.frombuffer(pickle.dumps(value) if is_writer() else b"", np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(sent))))
    held = sent if is_writer() else np.zeros(size, np.uint8)
    received = multihost_utils.broadcast_one_to_all(held)
    return pickle.loads(np.asarray(received, np.uint8).tobytes())
