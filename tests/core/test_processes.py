"""Steps that several processes take together; here by one process, or with a stand-in for JAX's.

`python -m tests.several_processes` runs real processes, which talk over sockets.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsd_jax.cli import main
from rsd_jax.cli import processes as joining
from rsd_jax.core import processes
from rsd_jax.core.sharding import make_mesh
from rsd_jax.errors import ConfigError
from rsd_jax.evaluation.sweep import run


def test_one_process_reads_and_writes_itself():
    tree = {"a": jnp.arange(3), "b": 2}
    read = processes.read(tree)
    np.testing.assert_array_equal(read["a"], [0, 1, 2])
    assert isinstance(read["a"], np.ndarray)
    assert processes.on_writer(max, 1, 2) == 2
    assert processes.agreed(tree) is tree
    assert processes.is_writer()


@pytest.fixture
def as_process(monkeypatch):
    """Makes this process one of two; what the writer sends is what the writer sent last."""
    sent: list[np.ndarray] = []

    def become(index):
        monkeypatch.setattr(jax, "process_count", lambda: 2)
        monkeypatch.setattr(jax, "process_index", lambda: index)

    def broadcast(value):
        if jax.process_index() == 0:
            sent.append(np.asarray(value))
            return value
        return sent.pop(0)

    monkeypatch.setattr("jax.experimental.multihost_utils.broadcast_one_to_all", broadcast)
    return become


def test_a_result_and_an_error_of_the_writer_reach_everyone(as_process):
    def fail():
        raise ConfigError("only the writer sees the file")

    def never():
        pytest.fail("only the writer may call this")

    for index, function in enumerate((lambda: {"rows": [1]}, never)):
        as_process(index)
        assert processes.on_writer(function) == {"rows": [1]}
    for index, function in enumerate((fail, never)):
        as_process(index)
        with pytest.raises(ConfigError, match="only the writer sees"):
            processes.on_writer(function)
    for index in range(2):
        as_process(index)
        assert processes.agreed(f"of process {index}") == "of process 0"


def test_the_writer_alone_holds_a_lock(as_process, tmp_path):
    from rsd_jax.records.lock import LOCK, sole_writer

    for index in range(2):
        as_process(index)
        folder = tmp_path / str(index)
        with processes.writer_holds(lambda folder=folder: sole_writer(folder)):
            assert (folder / LOCK).exists() == (index == 0)


def test_several_processes_need_a_mesh_of_all_devices(as_process):
    as_process(0)
    with pytest.raises(ConfigError, match=r"2 processes need a mesh of all .*mesh=8,1"):
        make_mesh([])
    with pytest.raises(ConfigError, match=r"mesh=2,2 needs 4 .*a mesh has all devices; raise"):
        make_mesh([2, 2])
    assert make_mesh([4, 2]).size == 8


def test_a_cell_fails_for_all_processes_or_for_none(as_process, monkeypatch):
    """An error that only one host may have ends the sweep, and is no row."""

    def measure(*args):
        raise jax.errors.JaxRuntimeError("Gloo: connection reset by peer")

    monkeypatch.setattr(run, "measure_turn", measure)
    as_process(0)
    with pytest.raises(jax.errors.JaxRuntimeError, match="reset by peer"):
        list(run._turn_rows(None, None, {}, print, None))


_JOIN = ("--distributed", "--coordinator", "localhost:9000", "--processes", "2")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--coordinator", "a:1"), "--coordinator, --processes and --process_id go together"),
        (_JOIN, "--coordinator, --processes and --process_id go together"),
        ((*_JOIN, "--process_id", "2"), "--process_id 2 must be from 0 to --processes - 1 = 1"),
        ((*_JOIN, "--process_id", "0", "--coordinator", "a"), "--coordinator a must be HOST:PORT"),
        (("--distributed", "--start_timeout", "0"), "--start_timeout 0 must be at least 1"),
    ],
)
@pytest.mark.parametrize("command", ["evaluate", "stream", "distill"])
def test_flags_that_do_not_go_together(command, flags, message, capsys):
    assert main.main([command, *flags]) == main.BAD_INPUT
    assert message in capsys.readouterr().err


def _run(monkeypatch, initialize, *flags):
    """Runs `rsd distill --stage report` as one of several processes."""
    monkeypatch.setattr("jax.distributed.initialize", initialize)
    return main.main(["distill", "--stage", "report", *flags])


def test_no_other_processes_are_one_line(monkeypatch, capsys):
    def initialize(**options):
        raise ValueError("coordinator_address should be defined.")

    assert _run(monkeypatch, initialize, "--distributed") == main.BAD_INPUT
    said = capsys.readouterr().err
    assert said.startswith("error: --distributed: JAX finds no other processes here (coordinator")
    assert said.count("\n") == 1


def test_a_host_that_is_missing_is_one_line(monkeypatch, capsys):
    """The line comes before JAX ends the process with a trace of C++."""
    codes = []
    monkeypatch.setattr(joining.os, "_exit", codes.append)
    monkeypatch.setattr(joining.threading.Timer, "start", lambda timer: timer.run())
    monkeypatch.setattr(joining.threading.Timer, "run", lambda timer: timer.function(*timer.args))
    options = {}
    _run(monkeypatch, lambda **given: options.update(given), *_JOIN, "--process_id", "0")
    assert codes == [joining.BAD_START]
    first, *_ = capsys.readouterr().err.splitlines()
    assert first.startswith("error: all 2 processes have not joined within 300 s; check that")
    assert "reaches localhost:9000" in first
    assert options["initialization_timeout"] > 300


def test_a_process_that_ended_is_one_line(monkeypatch, capsys, tmp_path):
    def report(workdir: pathlib.Path) -> str:
        raise jax.errors.JaxRuntimeError("UNAVAILABLE: peer closed\nand a long trace")

    monkeypatch.setattr("rsd_jax.cli.commands.distill.report", report)
    code = _run(monkeypatch, lambda **options: None, *_JOIN, "--process_id", "0")
    assert code == main.BAD_INPUT
    said = capsys.readouterr().err
    assert "another process of the run has ended or cannot be reached (UNAVAILABLE: peer" in said
    assert said.count("\n") == 1


def test_only_the_first_process_speaks(monkeypatch, capsys, as_process):
    monkeypatch.setattr("rsd_jax.cli.commands.distill.report", lambda workdir: "a table")
    for index, shown in enumerate(("a table\n", "")):
        as_process(index)
        assert _run(monkeypatch, lambda **options: None, "--distributed") == 0
        assert capsys.readouterr().out == shown
