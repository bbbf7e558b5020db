"""Malformed files: each is refused with one clear error of the package, or read as it stands.

Nothing else may come of them: no error of a library, no hang, no huge array, no file that is
written or changed. RSD_JAX_MALFORMED=N draws the mutants from N seeds instead of one.
"""

import os
import pathlib
import random

import pytest

from tests.malformed.model_files import MODEL_FILES
from tests.malformed.record_files import RECORD_FILES
from tests.malformed.watching import Refused, outcome, snapshot

FILES = MODEL_FILES | RECORD_FILES
_SEEDS = int(os.environ.get("RSD_JAX_MALFORMED", "1"))
_LEAST_OF_EACH = 60


@pytest.mark.parametrize("name", FILES)
def test_a_malformed_file_is_refused_or_read_as_it_stands(name, tmp_path):
    kind = FILES[name]
    path = kind.make(tmp_path)
    valid = path.read_bytes()
    read = outcome(lambda: kind.read(tmp_path))
    assert not isinstance(read, Refused), read.message
    kind.check(valid, read)
    tried = refused = 0
    for seed in range(_SEEDS):
        for what, data in kind.mutants(valid, random.Random(f"{name} {seed}")):
            path.write_bytes(data)
            before = snapshot(tmp_path)
            try:
                found = outcome(lambda: kind.read(tmp_path))
                if isinstance(found, Refused):
                    refused += 1
                else:
                    kind.check(data, found)
            except Exception as error:
                raise AssertionError(f"{name}, {what} (seed {seed}): {error}") from error
            assert snapshot(tmp_path) == before, f"{name}, {what}: files were changed"
            tried += 1
    assert tried >= _LEAST_OF_EACH * _SEEDS
    assert refused > tried / 4  # the mutants are malformed indeed


def _unreadable(path):
    path.touch(mode=0)
    if os.access(path, os.R_OK):
        pytest.skip("the superuser reads every file")


def _circle(path):
    path.symlink_to(path.name)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("instead", [pathlib.Path.mkdir, _circle, _unreadable, None])
def test_what_is_no_file_is_refused(name, instead, tmp_path):
    kind = FILES[name]
    path = kind.make(tmp_path)
    path.unlink()
    if instead is not None:
        instead(path)
    found = outcome(lambda: kind.read(tmp_path))
    if kind.needed or instead is _unreadable:
        assert isinstance(found, Refused)
        assert path.name in found.message or tmp_path.name in found.message


def test_there_are_a_thousand_malformed_files():
    assert _LEAST_OF_EACH * len(FILES) >= 1000
