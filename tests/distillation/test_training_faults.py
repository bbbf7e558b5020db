"""A run that is killed, or whose newest checkpoint is damaged, gives the same result."""

import functools
import json
import os
import pathlib
import shutil
import signal
import struct
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from rsd_jax.distillation.data.corpus import batch_at
from rsd_jax.distillation.settings import TrainingSettings
from rsd_jax.distillation.training import train as loop
from rsd_jax.distillation.training.checkpoints import Checkpoints
from rsd_jax.distillation.training.log import Log
from rsd_jax.errors import CheckpointError
from tests import ROOT, old_files, tiny

pytestmark = pytest.mark.standard_promotion  # optax

_MODEL = tiny.TRAINED
_RECIPE = TrainingSettings(
    steps=60,
    batch_size=2,
    window=6,
    warmup_steps=2,
    learning_rate=1e-2,
    log_every=2,
    checkpoint_every=25,
)
_TEXT = np.random.default_rng(0).integers(2, 32, 200).astype(np.uint16)
_HANGS_AT = 37
_TIMES = ("seconds", "tokens_per_second")


def _train(directory):
    def measure(params):
        return {"norm": float(np.linalg.norm(params["embed_tokens"]["embedding"]))}

    with jax.numpy_dtype_promotion("standard"):
        return loop.train(_MODEL, _RECIPE, _TEXT, directory, evaluate=measure)


def train_until_it_hangs(directory):
    """Run by the process that is killed: it waits forever for the batch of step 37."""

    def slow_batch(*args, step, **rest):
        while step == _HANGS_AT:
            time.sleep(1)
        return batch_at(*args, step=step, **rest)

    loop.batch_at = slow_batch
    _train(pathlib.Path(directory))


def _rows(directory):
    """Rows of metrics.jsonl without times."""
    rows = map(json.loads, (directory / "metrics.jsonl").read_text().splitlines())
    return [{key: value for key, value in row.items() if key not in _TIMES} for row in rows]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Directory and last state of an uninterrupted run."""
    directory = tmp_path_factory.mktemp("whole")
    return directory, _train(directory)


def test_a_killed_run_goes_on_exactly(whole, tmp_path):
    command = f"from {__name__} import train_until_it_hangs as f; f({str(tmp_path)!r})"
    # The settings of this process, so that both compile the same program.
    child = subprocess.Popen(
        [sys.executable, "-c", f"import tests.conftest; {command}"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
    )
    metrics = tmp_path / "metrics.jsonl"
    try:
        while not (metrics.exists() and f'"step": {_HANGS_AT - 1},' in metrics.read_text()):
            assert child.poll() is None, child.stderr.read().decode()
            time.sleep(0.1)
    finally:
        child.send_signal(signal.SIGKILL)
        child.communicate()
    assert child.returncode == -signal.SIGKILL
    assert _rows(tmp_path)[-1]["step"] == _HANGS_AT - 1
    with metrics.open("a") as file:
        file.write('{"step": 38, "lo')  # as a kill may leave it
    state = _train(tmp_path)
    assert _rows(tmp_path) == _rows(whole[0])
    jax.tree.map(np.testing.assert_array_equal, state, whole[1])


def test_a_run_of_an_earlier_commit_goes_on(whole, tmp_path):
    """The run was stopped at step 30, 5 after its checkpoint; processors round differently."""
    folder = old_files.copy_of("training", tmp_path)
    state = _train(folder)
    own, other = ([row for row in _rows(f) if "loss" in row] for f in (folder, whole[0]))
    assert [row["step"] for row in own] == [row["step"] for row in other]
    losses = [row["loss"] for row in other]
    assert [row["loss"] for row in own] == pytest.approx(losses, rel=1e-3)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5), state, whole[1]
    )


def _flip_a_byte(checkpoint):
    """In the largest file of arrays: orbax restores it without noticing."""
    path = max((checkpoint / "default").rglob("d/*"), key=os.path.getsize)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _lose_the_arrays(checkpoint):
    shutil.rmtree(checkpoint / "default" / "ocdbt.process_0")


def _lose_the_metadata(checkpoint):
    """Removes the metadata and the checksums, which earlier versions did not write."""
    (checkpoint / "default" / "_METADATA").unlink()
    (checkpoint / "sha256.json").unlink()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_flip_a_byte, "is not as it was written"),
        (_lose_the_arrays, "is missing"),
        (_lose_the_metadata, "AttributeError"),
        (lambda checkpoint: (checkpoint / "sha256.json").write_text("{"), "sha256.json is damaged"),
    ],
    ids=["byte", "arrays", "metadata", "sums"],
)
def test_a_damaged_checkpoint_falls_back_to_the_last_good_one(damage, reason, whole, tmp_path):
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    damage(tmp_path / "checkpoints" / "60")
    with pytest.warns(
        UserWarning, match=rf"checkpoint 60 .*{reason}.* going on from checkpoint 50"
    ):
        state = _train(tmp_path)
    assert _rows(tmp_path) == _rows(whole[0])
    jax.tree.map(np.testing.assert_array_equal, state, whole[1])
    _train(tmp_path)  # It was written again: no warning.


def test_no_checkpoint_that_can_be_read(whole, tmp_path):
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    for checkpoint in (tmp_path / "checkpoints").iterdir():
        _flip_a_byte(checkpoint)
    with pytest.raises(
        CheckpointError, match=r"checkpoint 60 .*; checkpoint 50 .* there is no other"
    ):
        _train(tmp_path)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.latest_step() == 60  # Nothing was removed.
    checkpoints.close()


def _events(directory):
    """Events of the only event file: each is length u64, its checksum, event, checksum."""
    (path,) = directory.iterdir()
    data, events = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        events.append(event_pb2.Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    return events


def test_rates_leave_out_the_step_that_compiles(tmp_path):
    log = Log(tmp_path / "metrics.jsonl", _RECIPE, start=0)
    metrics = {"loss": np.float32(2.0), "grad_norm": np.float32(1.0)}
    time.sleep(0.5)  # the compiler
    for steps in ((0,), (1, 2)):
        for step in steps:
            log.add(step, metrics)
        log.flush(kept=None)
    log.close()
    first, second = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert first["seconds"] < 0.5
    assert "tokens_per_second" not in first
    assert second["tokens_per_second"] == 2 * _RECIPE.tokens_per_step / second["seconds"]


def test_scalars_for_tensorboard(tmp_path):
    log = Log(tmp_path / "metrics.jsonl", _RECIPE, start=4)
    log.add(4, {"loss": np.float32(2.0), "grad_norm": np.float32(1.0)})
    log.flush(kept=4)
    log.write({"step": 5, "heldout": {"loss": 3.0}})
    log.close()
    events = _events(tmp_path / "tensorboard")
    values = [(event.step, value) for event in events for value in event.summary.value]
    scalars = {(value.tag, value.simple_value, step) for step, value in values}
    assert {("train/loss", 2.0, 5), ("heldout/loss", 3.0, 5)} <= scalars
    assert {step for step, _ in values} == {5}
    # TensorBoard drops what it has of this step and later ones.
    starts = [e.step for e in events if e.session_log.status == event_pb2.SessionLog.START]
    assert starts == [5]
