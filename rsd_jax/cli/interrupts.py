"""Ctrl-C: finished work is kept, and the user is told where it is."""

import contextlib
from collections.abc import Callable, Iterator


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
