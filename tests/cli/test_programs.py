"""Compiled programs that `rsd` keeps: JAX bounds their size, also in a folder without a limit."""

import os
import subprocess
import sys

import pytest

from rsd_jax.cli.programs import keep_programs
from tests import ROOT

_MOST = 20_000  # bytes; one of the programs below takes about 5,000
_COMPILES = """
import os, sys
from rsd_jax.cli.programs import keep_programs
keep_programs()
import jax, jax.numpy as jnp
for size in range(int(sys.argv[1]), int(sys.argv[2])):
    jax.jit(lambda x: jnp.sin(x) @ x.T)(jnp.zeros((size, 3)))
print(os.environ["JAX_COMPILATION_CACHE_DIR"])
"""


def _compile(first, last, tmp_path, most):
    """Compiles programs in another process, which keeps `most` bytes of them; all that it keeps."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("JAX_")}
    environment |= {
        "XDG_CACHE_HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_COMPILATION_CACHE_MAX_SIZE": str(most),
    }
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", _COMPILES, str(first), str(last)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stderr == ""
    assert run.stdout.strip() == str(tmp_path / "rsd_jax" / "programs")
    return {path.name for path in (tmp_path / "rsd_jax" / "programs").glob("*-cache")}


def test_the_limit_holds_in_a_folder_that_had_none(tmp_path):
    before = _compile(1, 8, tmp_path, -1)
    folder = tmp_path / "rsd_jax" / "programs"
    assert sum((folder / name).stat().st_size for name in before) > _MOST
    after = _compile(8, 16, tmp_path, _MOST)
    assert after
    assert not after & before
    assert sum((folder / name).stat().st_size for name in after) <= _MOST


def test_programs_stay_where_there_is_no_limit(tmp_path, monkeypatch):
    folder = tmp_path / "rsd_jax" / "programs"
    folder.mkdir(parents=True)
    for name in ("kept-cache", "kept-atime", "old-cache"):
        (folder / name).touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for most, left in (("-1", 3), (str(_MOST), 2)):
        monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
        monkeypatch.setenv("JAX_COMPILATION_CACHE_MAX_SIZE", most)
        keep_programs()
        assert len(list(folder.iterdir())) == left


@pytest.mark.parametrize("home", ["a file", None])
def test_without_a_folder_nothing_is_kept(home, tmp_path, monkeypatch):
    if home is not None:
        (tmp_path / "cache").write_text(home)
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    keep_programs()
    assert ("JAX_COMPILATION_CACHE_DIR" in os.environ) == (home is None)
