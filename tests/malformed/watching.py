"""Runs a reader on malformed input, and says how the reader failed to refuse it."""

import contextlib
import pathlib
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from rsd_jax.errors import CheckpointError, ConfigError

OWN = (ConfigError, CheckpointError)
_SECONDS = 20  # of one input; all take milliseconds
_BYTES = 1 << 31  # that one input may have a reader reserve
_LONGEST = 2000  # characters of a message
_STATISTICS = pathlib.Path("/proc/self/statm")


class Refused:
    """The input was refused with one of the package's errors, whose text is `message`."""

    def __init__(self, error: Exception):
        self.message = str(error)


def outcome(read: Callable[[], Any]) -> Any:
    """What `read` returns, or `Refused`.

    Raises:
      AssertionError: an error of another kind or without a readable message, a warning of another
        kind than the package's own, too much time or memory.
    """
    with warnings.catch_warnings(record=True) as caught, _bounds():
        warnings.simplefilter("always")
        try:
            found = read()
        except OWN as error:
            found = Refused(error)
        except Exception as error:
            raise AssertionError(f"{type(error).__name__}: {error}") from error
    for warning in caught:
        assert warning.category is UserWarning, f"{warning.category.__name__}: {warning.message}"
    if isinstance(found, Refused):
        _check_message(found.message)
    return found


def _check_message(message: str) -> None:
    assert 15 < len(message) < _LONGEST, f"a message of {len(message)} characters: {message[:99]}"
    for sign in ("Traceback", "object at 0x", "<function"):
        assert sign not in message, message


def snapshot(folder: pathlib.Path) -> dict[str, Any]:
    """Every file below a folder with its content and the time of its last change."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        if path.is_file()
        else None
        for path in sorted(folder.rglob("*"))
    }


@contextlib.contextmanager
def _bounds() -> Iterator[None]:
    """Bounds time and memory where the system can, so that a hang or a huge array is an error."""
    if threading.current_thread() is not threading.main_thread() or not _STATISTICS.exists():
        yield
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(_STATISTICS.read_text().split()[0]) * resource.getpagesize()
    handler = signal.signal(signal.SIGALRM, _late)
    resource.setrlimit(resource.RLIMIT_AS, (used + _BYTES, before[1]))
    signal.setitimer(signal.ITIMER_REAL, _SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)


def _late(number: int, frame: Any) -> None:
    raise TimeoutError(f"not read within {_SECONDS} s")
