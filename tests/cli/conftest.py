"""No command of a test touches the user's files or leaves variables in the environment."""

import pytest


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch, tmp_path):
    """Compiled programs are kept where the tests keep them, if anywhere."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    monkeypatch.setenv(
        "JAX_COMPILATION_CACHE_MAX_SIZE", str(2**30)
    )  # what `rsd` sets stays no longer
    monkeypatch.setenv("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
