"""Configurations by name and by file, in a checkout and in an installed package."""

import shutil
import sys

import pytest

from rsd_jax.cli import configurations
from rsd_jax.cli.flags import COMMANDS
from rsd_jax.errors import ConfigError
from tests import ROOT

_NAMED = [(command.configs, name) for command in COMMANDS.values() for name in command.names]


def _read(source, *overrides, folder="evaluate", names=("arena", "experiment1")):
    return configurations.read_configuration(source, overrides, folder, names)


def test_every_configuration_has_a_name():
    """A file with a `get_config` belongs to one command; the others are imported by these."""
    files = {
        (path.parent.name, path.stem)
        for path in (ROOT / "configs").glob("*/*.py")
        if "def get_config(" in path.read_text(encoding="utf-8")
    }
    assert len(_NAMED) == len(set(_NAMED))
    assert set(_NAMED) == files


def test_defaults_are_named():
    for command in COMMANDS.values():
        if command.configs is not None:
            assert command.config.partition(":")[0] in command.names


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """As in a wheel: `configs/` in the assets, none beside the package, another working directory.

    What the copies say differs from the checkout, to tell which one was read.
    """
    folder = shutil.copytree(ROOT / "configs", tmp_path / "assets/configs")
    shared = folder / "evaluate/pairs.py"
    text = shared.read_text(encoding="utf-8")
    assert "seeds=(0,)" in text
    shared.write_text(text.replace("seeds=(0,)", "seeds=(5,)"), encoding="utf-8")
    monkeypatch.setattr(configurations, "_HOMES", (tmp_path / "assets", tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_name_is_read_from_an_installed_package(installed):
    before = list(sys.path)
    assert _read("experiment1:quick").seeds == (5,)
    assert sys.path == before
    assert not [name for name in sys.modules if name.startswith(str(installed))]


def test_modules_that_were_imported_before_stay(installed):
    from configs.evaluate import pairs

    assert _read("experiment1").seeds == (5,)
    assert sys.modules["configs.evaluate.pairs"] is pairs


def test_a_file_imports_what_lies_beside_it(installed):
    """A copy of the folder that the user has changed; without `pairs` it takes the shipped one."""
    own = shutil.copytree(ROOT / "configs", installed / "mine/configs")
    assert _read(str(own / "evaluate/experiment1.py:quick")).seeds == (0,)
    (own / "evaluate/pairs.py").unlink()
    assert _read("mine/configs/evaluate/experiment1.py:quick").seeds == (5,)
    alone = shutil.copy(own / "evaluate/arena.py", installed / "arena.py")
    assert _read(f"{alone}:top_p").seeds == (5,)


def test_values_are_set():
    config = _read("experiment1:quick", "--config.batch_size=3", "--config.seeds=(1, 2)")
    assert (config.batch_size, config.seeds) == (3, (1, 2))
    assert _read("experiment1:quick").batch_size == 1


def test_without_configurations_the_error_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(configurations, "_HOMES", (tmp_path,))
    with pytest.raises(ConfigError, match="no configurations; install its wheel"):
        _read("arena")


@pytest.mark.parametrize(
    ("text", "names"),
    [("x = 1", "get_config"), ("import no_such_module", "no_such_module"), ("x =", "syntax")],
)
def test_a_file_that_is_no_configuration(tmp_path, text, names):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(ConfigError, match=names):
        _read(str(path))
