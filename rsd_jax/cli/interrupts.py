"""Ctrl-C: it is never lost, finished work is kept, and the user is told where it is."""

import _thread
import contextlib
import gc
import signal
import threading
import time
import types
from collections.abc import Callable, Iterator

_SOON = 0.01  # seconds
_OF_WEAK_REFERENCES = ("weakref", "_weakrefset")  # modules whose callbacks Python calls


class Interrupted(KeyboardInterrupt):
    """The user stopped a command; the text says what is kept, and where."""


@contextlib.contextmanager
def keeping(kept: Callable[[], str]) -> Iterator[None]:
    """Raises `Interrupted` in place of `KeyboardInterrupt`.

    Args:
      kept: says what is kept and where, at the time of the interruption.

    Raises:
      Interrupted: the user pressed Ctrl-C.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(kept()) from None


@contextlib.contextmanager
def heard() -> Iterator[None]:
    """Has Ctrl-C raise `KeyboardInterrupt` wherever it comes.

    Python drops an exception that is raised in a callback of its garbage collector (JAX has one) or
    of a weak reference. Does nothing in other threads, or if Ctrl-C has another meaning already.
    """
    usual = signal.default_int_handler
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not usual
    ):
        yield
        return
    handler = _Handler()
    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
        handler.finish()


def _interrupt_main() -> None:
    """Ctrl-C for the main thread; a call that waits ends, where the system has such signals."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        _thread.interrupt_main()


def _in_callback(frame: types.FrameType | None) -> bool:
    """Whether Python would drop an exception that is raised in this frame."""
    callbacks = {getattr(each, "__code__", None) for each in gc.callbacks}
    while frame is not None:
        if frame.f_code in callbacks or frame.f_globals.get("__name__") in _OF_WEAK_REFERENCES:
            return True
        frame = frame.f_back
    return False


class _Handler:
    """Raises `KeyboardInterrupt`; soon, if it would be dropped here."""

    def __init__(self) -> None:
        self._postponed = False

    def __call__(self, number: int, frame: types.FrameType | None) -> None:
        if not _in_callback(frame):
            self._postponed = False
            raise KeyboardInterrupt
        if not self._postponed:
            self._postponed = True
            threading.Thread(target=self._send, daemon=True).start()

    def _send(self) -> None:
        """Sends Ctrl-C to the main thread until it is raised there.

        One signal is not enough: this thread often gets its turn when the main thread is about to
        wait, and a signal that comes before the wait has begun does not end the wait.
        """
        time.sleep(_SOON)
        while self._postponed:
            _interrupt_main()
            time.sleep(_SOON)

    def finish(self) -> None:
        """Raises `KeyboardInterrupt` now if it was to be raised soon."""
        if self._postponed:
            self._postponed = False
            raise KeyboardInterrupt
