"""The measurement on an accelerator: rehearsed on a bare machine, stopped, resumed, reported."""

import dataclasses
import gc
import os
import pathlib
import subprocess
import sys
import time
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from rsd_jax.errors import ConfigError
from rsd_jax.evaluation.accelerator.bench import Bench
from rsd_jax.evaluation.accelerator.cells import Cell, measure_cells
from rsd_jax.evaluation.accelerator.check import TIE, check_cells
from rsd_jax.evaluation.accelerator.profile import operation_seconds
from rsd_jax.evaluation.accelerator.run import _OF_BENCH, PARTS, Run, check_device, rows_path
from rsd_jax.evaluation.accelerator.settings import REHEARSAL, Settings
from rsd_jax.evaluation.divergence import margin
from rsd_jax.records.device_parts import PeerBlock, WidePass
from rsd_jax.records.files import read_rows
from rsd_jax.records.hardware import Hardware
from rsd_jax.reporting.accelerator.tables import accelerator_tables, knee, latest, summary
from rsd_jax.testing import fixed_seeds
from tests import ROOT, fixed_seed_record, packed_drafts

# A GPU image lacks these libraries, and has no network.
_BARE = """
import socket, sys

class Missing:
    names = {
        "ml_collections", "tensorflow_datasets", "num2words", "rouge_score", "bayes_opt",
        "tensorboardX", "array_record",
    }

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ImportError(f"{name} is not installed on this machine")

def no_network(*_, **__):
    raise OSError("this machine has no network")

sys.meta_path.insert(0, Missing())
socket.getaddrinfo = no_network
"""


@pytest.fixture(scope="module", autouse=True)
def _few_objects_to_collect():
    """The measurement collects garbage after each cell, which takes seconds in a long process."""
    gc.freeze()
    yield
    gc.unfreeze()


_KINDS = {"check", "device", "block", "peer", "pass", "skipping", "choice", "profile", "training"}


def _header():
    hardware = Hardware(cpu="a cpu", cores=1, backend="gpu", device="a card", num_devices=1)
    return {
        "kind": "peer",
        "pair": "random",
        "task": "random",
        "method": "hf_static",
        "tree": "-",
        "draft_length": 0,
        "temperature": 0.3,
        "seed": 0,
        "hardware": hardware,
        "versions": {},
    }


def _cell(name, measure):
    return Cell("peers", name, _header, measure)


def _measured():
    return {"peer": PeerBlock(t_block=0.01)}


def _run(path, cells, deadline=np.inf, settings=REHEARSAL):
    said = []
    progress = measure_cells(cells, settings.hash_of, path, deadline=deadline, say=said.append)
    return progress, said


def test_every_part_runs_from_a_plain_checkout_on_a_bare_machine(tmp_path):
    folder = packed_drafts.write(tmp_path / "tiny" / "packed")
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare/sitecustomize.py").write_text(_BARE, encoding="utf-8")
    environment = os.environ | {
        "PYTHONPATH": str(tmp_path / "bare"),
        "PYTHON": sys.executable,
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "JAX_COMPILATION_CACHE_DIR": os.environ.get(
            "JAX_COMPILATION_CACHE_DIR", str(tmp_path / "cache")
        ),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    out = tmp_path / "out"
    run = subprocess.run(
        [
            "bash",
            str(ROOT / "launch/accelerator.sh"),
            "--rehearse",
            f"--out={out}",
            "--drafts",
            folder,
        ],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode == 0, run.stderr
    rows = read_rows(rows_path(out))
    assert {row.status for row in rows} == {"ok"}
    assert {row.kind for row in rows} == _KINDS
    assert {row.experiment for row in rows} == {*PARTS}
    assert len({row.config_hash for row in rows}) == len(rows)
    assert all(row.value("agrees") for row in rows if row.kind == "check")
    assert len([path for path in out.rglob("*") if path.is_file()]) <= 8
    assert run.stdout.startswith(summary(rows))


def test_missing_cells_are_measured_in_order_until_time_is_up(tmp_path):
    path = tmp_path / "rows.jsonl"
    cells = [_cell(name, _measured) for name in ("first", "second", "third")]
    progress, said = _run(path, cells, deadline=time.monotonic())
    assert (progress.measured, progress.left, said) == (0, 3, [])
    _run(path, cells[:1])
    progress, said = _run(path, cells)
    assert (progress.measured, progress.left) == (2, 0)
    assert [line.split()[1] for line in said] == ["second", "second", "third", "third"]
    assert _run(path, cells)[0].measured == 0
    other = dataclasses.replace(REHEARSAL, repeats=2)
    assert _run(path, cells, settings=other)[0].measured == 3, "other settings, other cells"


def test_what_does_not_fit_is_a_row_and_what_fails_is_measured_again(tmp_path):
    path = tmp_path / "rows.jsonl"

    def too_large():
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory\nwhile trying to allocate 80 GiB")

    def broken():
        raise KeyError("a defect")

    cells = [_cell("large", too_large), _cell("broken", broken), _cell("fits", _measured)]
    progress, _ = _run(path, cells)
    assert (progress.measured, progress.failed) == (3, 1)
    large, failed, fits = read_rows(path)
    assert (large.status, failed.status, fits.status) == ("skipped", "failed", "ok")
    assert large.message == (
        "does not fit: RuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying to allocate "
        "80 GiB"
    )
    assert "a defect" in failed.message
    cells[1] = _cell("broken", _measured)
    assert _run(path, cells)[0].measured == 1
    assert len(latest(read_rows(path))) == 3
    (_, unfinished) = accelerator_tables(read_rows(path))
    assert [line[5] for line in unfinished.rows] == ["skipped"]


def test_a_target_that_does_not_fit_is_a_row_too(tmp_path):
    class Small(Bench):
        @property
        def target(self):
            raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    path, bench = tmp_path / "rows.jsonl", Small(REHEARSAL)
    cells = [cell for make in _OF_BENCH.values() for cell in make(bench)]
    progress, _ = _run(path, cells)
    rows = read_rows(path)
    assert (progress.measured, progress.failed) == (len(cells), 0)
    assert {row.status for row in rows if row.kind != "device"} == {"skipped"}
    assert {row.dtype for row in rows} == {REHEARSAL.dtype}


def test_a_row_that_cannot_be_written_does_not_end_the_part(tmp_path):
    cells = [_cell("nan", lambda: {"peer": PeerBlock(t_block=np.nan)}), _cell("next", _measured)]
    progress, _ = _run(tmp_path / "rows.jsonl", cells)
    assert (progress.measured, progress.failed) == (2, 1)
    assert [row.status for row in read_rows(tmp_path / "rows.jsonl")] == ["failed", "ok"]


def test_rows_of_another_device_and_a_measurement_on_a_cpu_are_refused(tmp_path):
    path = tmp_path / "rows.jsonl"
    run = Run(("check",), REHEARSAL, lambda: None, training=lambda deadline: [], path=path)
    check_device(run)
    with pytest.raises(ConfigError, match="no GPU or TPU"):
        check_device(dataclasses.replace(run, settings=Settings()))
    _run(run.path, [_cell("elsewhere", _measured)])
    with pytest.raises(ConfigError, match="'a card'"):
        check_device(run)


def test_operations_are_read_from_the_device_if_it_has_any(tmp_path, monkeypatch):
    def plane(name, operation, duration):
        event = SimpleNamespace(stats=[("hlo_op", operation)], duration_ns=duration)
        return SimpleNamespace(name=name, lines=[SimpleNamespace(events=[event])])

    (tmp_path / "a.xplane.pb").touch()
    host, card = plane("/host:CPU", "fusion.1", 5e9), plane("/device:GPU:0", "fusion.2", 2e9)
    for planes, seconds in (([host, card], 2.0), ([host], 5.0)):
        data = SimpleNamespace(planes=planes)
        monkeypatch.setattr(jax.profiler.ProfileData, "from_file", lambda _, data=data: data)
        assert operation_seconds(tmp_path) == {"fusion": seconds}


def test_the_knee_is_where_more_nodes_begin_to_cost(tmp_path):
    path, ratios = tmp_path / "rows.jsonl", {1: 1.0, 8: 1.05, 16: 1.3, 32: 1.02}

    def cell(nodes, batch):
        part = WidePass(nodes=nodes, t_pass=ratios[nodes], t_pass_ratio=ratios[nodes])
        fields = _header() | {"kind": "pass", "batch_size": batch, "context_length": 512}
        return Cell("curves", f"{nodes} {batch}", lambda: fields, lambda: {"wide_pass": part})

    _run(path, [cell(nodes, batch) for batch in (1, 4) for nodes in ratios])
    assert knee(read_rows(path)) == 8
    assert "up to 8 nodes" in summary(read_rows(path))


def test_the_record_of_draws_is_that_of_this_machine():
    recorded = fixed_seeds.reference(fixed_seed_record.TOKENS, fixed_seed_record.OTHERS)
    assert recorded.find_bits() == recorded.bits
    found = recorded.find_laws(*recorded.pair("float32"))
    assert found.shape == recorded.laws.shape
    assert 0.5 * np.abs(found - recorded.laws).sum(-1).max() < TIE
    np.testing.assert_allclose(recorded.laws.sum(-1), 1.0, atol=1e-5)


def test_a_difference_is_judged_by_its_margin():
    recorded = fixed_seeds.reference(fixed_seed_record.TOKENS, fixed_seed_record.OTHERS)
    found = {"ar": [[1, 2, 3], [4, 5]], "sd": [[1, 9, 3], [4, 5]]}
    fake = dataclasses.replace(
        recorded,
        tokens={name: found["ar"] for name in found},
        prompts=[[5], [6]],
        decode=lambda name, target, draft: found[name],
    )
    cells = {cell.name: cell for cell in check_cells(Settings(), fake)}

    def agreement(method, dtype):
        return cells[f"tokens, {method}, {dtype}"].measure()["agreement"]

    same, other = agreement("ar", "float32"), agreement("sd", "float32")
    assert (same.different, same.differences, same.agrees) == (0, [], True)
    assert (other.compared, other.different, other.agrees) == (2, 1, False)
    gap = margin(recorded.pair("float32")[0], [5, 1])
    assert other.differences == pytest.approx([gap], rel=1e-3)
    assert gap > TIE
    reported = agreement("sd", "bfloat16")
    assert (reported.different, reported.tolerance, reported.agrees) == (1, None, True)


@pytest.mark.parametrize("settings", [Settings(), REHEARSAL])
def test_cells_have_names_of_their_own(settings):
    for part in _OF_BENCH.values():
        names = [cell.name for cell in part(Bench(settings))]
        assert len(set(names)) == len(names)


def test_the_launcher_is_documented_where_its_parts_are_named():
    page = pathlib.Path(ROOT / "docs/performance.md").read_text(encoding="utf-8")
    assert all(f"`{part}`" in page for part in PARTS)
