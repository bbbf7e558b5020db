"""One writer at a time: a lock on a folder of results, held by the process that writes there."""

import contextlib
import os
import pathlib
from collections.abc import Iterator
from typing import IO, Any

from rsd_jax.errors import ConfigError

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl: Any = None  # type: ignore[no-redef]

LOCK = ".writing"
"""The file that is locked. It holds the number of the last process that had the lock, and stays."""


@contextlib.contextmanager
def sole_writer(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Holds the lock of a folder, which is made if needed, while the block runs.

    The system gives the lock back when the process ends, however it ends. Where the system or the
    file system has no such locks, the block runs without.

    Raises:
      ConfigError: another process, or another block of this one, holds the lock.
      OSError: the folder cannot be made or written to.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK, "a+", encoding="ascii") as file:
        if not _lock(file):
            file.seek(0)
            holder = file.read().strip()
            raise ConfigError(
                f"process {holder or 'of unknown number'} is writing to {folder}; wait until it "
                "has ended, or give another folder"
            )
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _lock(file: IO[str]) -> bool:
    """Whether the lock could be taken, or there are no locks."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some network file systems have no locks
        return True
    return True
