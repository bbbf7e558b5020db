"""Ctrl-C as a signal: it is heard wherever it comes."""

import gc
import signal
import time
import weakref

import pytest

from rsd_jax.cli.interrupts import Interrupted, heard, keeping


@pytest.fixture(autouse=True)
def _usual_meaning():
    """Ctrl-C means what it means when Python starts; a worker of the tests may ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.signal(signal.SIGINT, before) is signal.default_int_handler


def _stop_and_wait():
    signal.raise_signal(signal.SIGINT)
    time.sleep(10)


def test_what_is_kept_is_said():
    with pytest.raises(Interrupted, match="all of it"), heard(), keeping(lambda: "all of it"):
        _stop_and_wait()


def _collect_and_wait():
    gc.collect()
    time.sleep(10)


def test_it_is_heard_in_a_callback_of_the_garbage_collector():
    seen = []

    def callback(phase, info):
        if not seen:
            seen.append(phase)
            signal.raise_signal(signal.SIGINT)

    gc.callbacks.append(callback)
    try:
        begin = time.monotonic()
        with pytest.raises(KeyboardInterrupt), heard():
            _collect_and_wait()
        assert time.monotonic() - begin < 9  # the wait has ended
    finally:
        gc.callbacks.remove(callback)
    assert seen


class _Interrupted(set):
    """What a weak set holds: Ctrl-C comes while an object is taken out, which has ended."""

    def discard(self, item):
        signal.raise_signal(signal.SIGINT)
        super().discard(item)


def _end_and_wait():
    class Thing:
        pass

    thing, weak = Thing(), weakref.WeakSet()
    weak.add(thing)
    weak.data = _Interrupted(weak.data)
    del thing
    time.sleep(10)


def test_it_is_heard_in_a_callback_of_a_weak_reference():
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt), heard():
        _end_and_wait()
    assert time.monotonic() - begin < 9


def test_another_meaning_is_left_alone():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with heard():
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        signal.raise_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
