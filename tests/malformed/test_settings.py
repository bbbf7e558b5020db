"""Malformed settings of long runs: refused by name of the key, or held as they were given."""

import dataclasses
import os
import random

import pytest

from rsd_jax.cli.configurations import read_configuration
from rsd_jax.distillation.settings import Settings
from rsd_jax.evaluation.stream.settings import StreamSettings
from rsd_jax.evaluation.sweep.definition import Sweep
from tests.malformed.mutants import value_mutants
from tests.malformed.watching import Refused, outcome

_READERS = {
    "experiment1": ("evaluate", Sweep),
    "experiment2": ("evaluate", Sweep),
    "arena": ("evaluate", Sweep),
    "swift_stream": ("evaluate", StreamSettings),
    "quickstart": ("distill", Settings),
    "any_llama": ("distill", Settings),
}
_EACH = 150 * int(os.environ.get("RSD_JAX_MALFORMED", "1"))


def _plain(value):
    """Without tuples, which files and command lines do not have."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _check_holds(read, given, where=""):
    """Every value that was given is in the settings; null stands for a default."""
    if isinstance(given, dict):
        for key, value in given.items():
            _check_holds(read[key], value, f"{where}.{key}")
    elif given is not None:
        assert read in (given, _floats(given)), f"{where}: {given!r} became {read!r}"


def _floats(value):
    """Numbers as floats, as fields that are numbers hold them."""
    if isinstance(value, list):
        return [_floats(each) for each in value]
    return float(value) if isinstance(value, int) and value < 2**1000 else value


@pytest.mark.parametrize("name", _READERS)
def test_malformed_settings_are_refused_or_held(name):
    folder, kind = _READERS[name]
    valid = _plain(read_configuration(name, [], folder, list(_READERS)).to_dict())
    if name == "any_llama":  # without a target, whose vocabulary a draft has
        del valid["draft"], valid["draft_warm_start"]
        valid["target_directory"] = ""
    kind.from_config(valid)
    refused = 0
    for what, given in value_mutants(valid, _EACH, random.Random(name)):
        try:
            found = outcome(lambda given=given: kind.from_config(given))
            if isinstance(found, Refused):
                refused += 1
            else:
                _check_holds(_plain(dataclasses.asdict(found)), given)
        except Exception as error:
            raise AssertionError(f"{name}, {what}: {error}") from error
    assert refused > _EACH / 4
