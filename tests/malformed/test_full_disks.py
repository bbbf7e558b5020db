"""A full disk, and outputs that cannot be written: one error, and nothing finished is lost.

A limit on the size of files stands for a full disk: the system then refuses to write more.
"""

import contextlib
import json
import os
import pathlib
import types

import numpy as np
import pytest

from rsd_jax.cli import main
from rsd_jax.cli.commands import benchmark, distill, evaluate
from rsd_jax.distillation.training.checkpoints import Checkpoints
from rsd_jax.models.adapter import load_adapter, save_adapter
from rsd_jax.models.checkpoint import load_params, save_model
from rsd_jax.records.complete_files import write_json
from rsd_jax.records.files import append_row, read_rows
from rsd_jax.testing.tiny_llama import TINY_CONFIG, tiny_params
from tests import ROOT
from tests.malformed.watching import snapshot

resource = pytest.importorskip("resource")


@contextlib.contextmanager
def full_after(size: int):
    """No file can become larger than `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(scope="module")
def rows():
    return read_rows(ROOT / "docs/results/skipping.jsonl")[:2]


def test_rows_that_were_written_stay_and_the_file_goes_on(rows, tmp_path):
    path = tmp_path / "results.jsonl"
    append_row(path, rows[0])
    with full_after(path.stat().st_size + 100), pytest.raises(OSError, match="too large"):
        append_row(path, rows[1])
    with pytest.warns(UserWarning, match="cut off"):
        assert read_rows(path) == rows[:1]
    with pytest.warns(UserWarning, match="cut off"):
        append_row(path, rows[1])
    assert read_rows(path) == rows


def _leaf(folder: pathlib.Path) -> np.ndarray:
    params = load_params(
        folder, TINY_CONFIG, dtype="float32", place=lambda _, stored: stored.read()
    )
    return params["layers_0"]["mlp"]["up_proj"]["kernel"]


def test_an_older_model_stays(tmp_path):
    save_model(tmp_path, TINY_CONFIG, tiny_params(0), dtype="float32")
    before, leaf = snapshot(tmp_path), _leaf(tmp_path)
    with full_after(5000), pytest.raises(OSError, match="weights cannot be written to"):
        save_model(tmp_path, TINY_CONFIG, tiny_params(1), dtype="float32")
    assert snapshot(tmp_path) == before
    np.testing.assert_array_equal(_leaf(tmp_path), leaf)
    save_model(tmp_path, TINY_CONFIG, tiny_params(1), dtype="float32")
    assert not np.array_equal(_leaf(tmp_path), leaf)


@pytest.mark.parametrize("size", [100, 600], ids=["configuration", "weights"])
def test_an_older_adapter_stays(size, tmp_path):
    path = ("layers_0", "mlp", "up_proj", "kernel")
    for value in (1.0, 2.0):
        factors = {path: tuple(np.full(n, value, np.float32) for n in ((16, 9), (9, 24)))}
        if value == 1.0:
            save_adapter(tmp_path, TINY_CONFIG, factors, base="x")
            continue
        before = snapshot(tmp_path)
        with full_after(size), pytest.raises(OSError, match="too large"):
            save_adapter(tmp_path, TINY_CONFIG, factors, base="x")
    assert snapshot(tmp_path) == before
    assert load_adapter(tmp_path, TINY_CONFIG).factors[path][0][0, 0] == 1.0


def test_an_older_file_stays_and_no_partial_file_is_left(tmp_path):
    path = tmp_path / "search.json"
    write_json(path, [1])
    with full_after(1000), pytest.raises(OSError, match="too large"):
        write_json(path, list(range(1000)))
    assert json.loads(path.read_text()) == [1]
    assert os.listdir(tmp_path) == ["search.json"]


def test_an_earlier_checkpoint_stays(tmp_path, caplog):
    def state(seed):
        return {"a": np.random.default_rng(seed).normal(size=60_000).astype(np.float32)}

    with contextlib.closing(Checkpoints(tmp_path)) as checkpoints:
        checkpoints.save(1, state(0))
        with full_after(50_000), pytest.raises(OSError, match="earlier checkpoints are intact"):
            checkpoints.save(2, state(1))
    assert not caplog.records
    with contextlib.closing(Checkpoints(tmp_path)) as checkpoints:
        step, found = checkpoints.restore(state(2))
        assert step == 1
        np.testing.assert_array_equal(found["a"], state(0)["a"])
        checkpoints.save(2, state(1))
        assert checkpoints.restore(state(2))[0] == 2


def _never(*given, **options):
    raise AssertionError("the models were loaded before the output was looked at")


def _commands(folder):
    return {
        "evaluate": (
            "--config=experiment1:quick",
            "--tasks=completion",
            f"--config.out_dir={folder}",
        ),
        "distill": ("--config=quickstart", f"--workdir={folder}"),
        "benchmark": (f"--out={folder}/rows.jsonl",),
    }


@pytest.fixture
def without_models(monkeypatch):
    monkeypatch.setattr(main, "_prepare", lambda **options: None)
    monkeypatch.setattr(evaluate, "load_pair", _never)
    monkeypatch.setattr(benchmark, "_models", _never)


@pytest.mark.parametrize("command", _commands(""))
@pytest.mark.parametrize("place", ["a file", "below a file", "read-only"])
def test_an_output_that_cannot_be_written_is_one_line_before_the_work(
    command, place, without_models, capsys, tmp_path
):
    (tmp_path / "file").write_text("kept")
    folder = {"a file": "file", "below a file": "file/below", "read-only": "folder"}[place]
    if place == "read-only":
        (tmp_path / "folder").mkdir(mode=0o555)
        if os.access(tmp_path / "folder", os.W_OK):
            pytest.skip("the superuser writes to every folder")
    assert main.main([command, *_commands(tmp_path / folder)[command]]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert str(tmp_path / "file") in said or str(tmp_path / "folder") in said
    assert (tmp_path / "file").read_text() == "kept"


def test_evaluate_says_that_the_disk_is_full_and_keeps_its_rows(
    monkeypatch, rows, without_models, capsys, tmp_path
):
    def run_sweep(*given, **options):
        for row in rows:
            append_row(tmp_path / "results.jsonl", row)

    monkeypatch.setattr(evaluate, "run_sweep", run_sweep)
    with full_after(len(json.dumps(rows[0].flat())) + 200):
        code = main.main(["evaluate", *_commands(tmp_path)["evaluate"]])
    said = capsys.readouterr().err
    assert code == 2
    assert "error: [Errno" in said.splitlines()[-1]
    with pytest.warns(UserWarning, match="cut off"):
        assert read_rows(tmp_path / "results.jsonl") == rows[:1]


def test_distill_says_that_the_disk_is_full(monkeypatch, without_models, capsys, tmp_path):
    def run_stage(*given, **options):
        save_model(tmp_path / "export", TINY_CONFIG, tiny_params(0), dtype="float32")

    monkeypatch.setattr(distill, "run_stage", run_stage)
    with full_after(5000):
        code = main.main(["distill", "--stage=export", f"--workdir={tmp_path}"])
    assert code == 2
    assert capsys.readouterr().err.startswith("error: the weights cannot be written to")


def test_benchmark_shows_its_table_though_the_disk_is_full(monkeypatch, capsys, tmp_path, rows):
    out = tmp_path / "rows.jsonl"
    monkeypatch.setattr(benchmark, "time_skipped_passes", lambda *given, **options: None)
    monkeypatch.setattr(benchmark, "random_sets", lambda layers: None)
    monkeypatch.setattr(benchmark, "skipping_rows", lambda *given, **options: rows)
    args = types.SimpleNamespace(context=8, repeats=1, out=out)
    target = types.SimpleNamespace(model=types.SimpleNamespace(num_layers=4))
    with full_after(100), pytest.raises(OSError, match="too large"):
        benchmark._skipping_at("x", target, args, 1)
    assert "sub-layers kept" in capsys.readouterr().out
