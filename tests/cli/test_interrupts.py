"""Ctrl-C as a signal: it is heard wherever it comes."""

import contextlib
import gc
import signal
import time
import weakref

import pytest

from rsd_jax.cli import interrupts
from rsd_jax.cli.interrupts import Interrupted, heard, keeping

_WAIT = 60  # seconds; a collection of all objects can take some of them


@pytest.fixture(autouse=True)
def _usual_meaning():
    """Ctrl-C means what it means when Python starts; a worker of the tests may ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.signal(signal.SIGINT, before) is signal.default_int_handler


def _stop_and_wait():
    signal.raise_signal(signal.SIGINT)
    time.sleep(_WAIT)


def test_what_is_kept_is_said():
    with pytest.raises(Interrupted, match="all of it"), heard(), keeping(lambda: "all of it"):
        _stop_and_wait()


def _heard_during(wait):
    """Whether `wait`, which sleeps for `_WAIT`, was cut short by `KeyboardInterrupt`."""
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt), heard():
        wait()
    return time.monotonic() - begin < _WAIT / 2


@contextlib.contextmanager
def _stopped_in_a_collection():
    """The next collection that is asked for is interrupted in a callback, once."""
    seen = []

    def callback(phase, info):
        if not seen:
            seen.append(phase)
            signal.raise_signal(signal.SIGINT)

    gc.disable()  # no collection of Python's own, which may come before Ctrl-C is heard
    gc.callbacks.append(callback)
    try:
        yield
    finally:
        gc.callbacks.remove(callback)
        gc.enable()
    assert seen


def _collect_and_wait():
    gc.collect()
    time.sleep(_WAIT)


def test_it_is_heard_in_a_callback_of_the_garbage_collector():
    with _stopped_in_a_collection():
        assert _heard_during(_collect_and_wait)


def test_a_signal_that_comes_before_the_wait_is_sent_again(monkeypatch):
    sends, send = [], interrupts._interrupt_main

    def lost_at_first():
        sends.append("lost" if not sends else "sent")
        if sends[-1] == "sent":
            send()

    monkeypatch.setattr(interrupts, "_interrupt_main", lost_at_first)
    with _stopped_in_a_collection():
        assert _heard_during(_collect_and_wait)
    assert sends[:2] == ["lost", "sent"]


def test_it_is_heard_at_the_end_at_the_latest(monkeypatch):
    monkeypatch.setattr(interrupts, "_interrupt_main", lambda: None)
    with _stopped_in_a_collection(), pytest.raises(KeyboardInterrupt), heard():
        gc.collect()


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
    time.sleep(_WAIT)


def test_it_is_heard_in_a_callback_of_a_weak_reference():
    assert _heard_during(_end_and_wait)


def test_another_meaning_is_left_alone():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with heard():
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        signal.raise_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
