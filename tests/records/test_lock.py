"""Two processes do not write to one folder."""

import errno
import os
import subprocess
import sys

import pytest

from rsd_jax.errors import ConfigError
from rsd_jax.records import lock
from rsd_jax.records.lock import LOCK, sole_writer
from tests import ROOT

_HOLDER = """
import sys, time
from rsd_jax.records.lock import sole_writer
with sole_writer(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path):
    folder = tmp_path / "runs/mine"
    first = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(folder)], stdout=subprocess.PIPE, cwd=ROOT, text=True
    )
    try:
        assert first.stdout.readline() == "held\n"
        with (
            pytest.raises(ConfigError, match=rf"process {first.pid} is writing to .*mine; wait"),
            sole_writer(folder),
        ):
            pytest.fail("two writers")
    finally:
        first.kill()  # as a machine would that runs out of memory: nothing is cleaned up
        first.communicate()
    with sole_writer(folder):
        assert (folder / LOCK).read_text() == str(os.getpid())


def test_the_lock_ends_with_the_block(tmp_path):
    for _ in range(2):
        with pytest.raises(ValueError, match="inside"), sole_writer(tmp_path):
            raise ValueError("inside")
    with (
        sole_writer(tmp_path),
        pytest.raises(ConfigError, match=f"process {os.getpid()} is"),
        sole_writer(tmp_path),
    ):
        pytest.fail("two writers")


def test_without_locks_it_writes(tmp_path, monkeypatch):
    def none(*_):
        raise OSError(errno.ENOLCK, "no locks available")

    with monkeypatch.context() as patch:
        patch.setattr(lock.fcntl, "flock", none)
        with sole_writer(tmp_path), sole_writer(tmp_path):
            pass
    monkeypatch.setattr(lock, "fcntl", None)
    with sole_writer(tmp_path), sole_writer(tmp_path):
        pass
