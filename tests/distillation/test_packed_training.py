"""Part `train` of the accelerator's measurement: stops when time is up, and goes on."""

import dataclasses
import json
import math
import shutil
import tarfile
import time

import jax
import numpy as np
import pytest

from rsd_jax.distillation import packed_training
from rsd_jax.distillation.packed import read_packed
from rsd_jax.distillation.packed_training import train_packed, training_cells
from rsd_jax.distillation.training.checkpoints import Checkpoints
from rsd_jax.distillation.training.step import abstract_state
from rsd_jax.errors import CheckpointError
from rsd_jax.evaluation.accelerator.cells import TimeUpError, measure_cells
from rsd_jax.evaluation.accelerator.settings import REHEARSAL
from rsd_jax.records.files import read_rows
from rsd_jax.reporting.accelerator.tables import summary
from tests import packed_drafts

pytestmark = pytest.mark.standard_promotion  # optax

_NOW, _NEVER = 0.0, math.inf


@pytest.fixture
def folder(tmp_path):
    return packed_drafts.write(tmp_path / "tiny" / "packed")


def _params(archive, draft, folder):
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    saved = Checkpoints(folder / "checkpoints")
    step, state = saved.restore(abstract_state(draft.model(), draft.recipe))
    saved.close()
    return step, state.params


def test_a_run_that_was_stopped_goes_on_to_the_same_end(folder, tmp_path, monkeypatch):
    draft = read_packed(folder)
    whole = train_packed(draft, tmp_path / "whole.tar", until=_NEVER)
    archive, steps = tmp_path / "stopped.tar", draft.recipe.steps
    for done in range(1, steps):
        with pytest.raises(TimeUpError, match=f"{done} of {steps} steps"):
            train_packed(draft, archive, until=_NOW)
    stopped = train_packed(draft, archive, until=_NOW)
    # A checkpoint a minute, and each time on from it.
    monkeypatch.setattr(packed_training, "_SECONDS", 0.0)
    by_the_minute = train_packed(draft, tmp_path / "minutes.tar", until=_NEVER)
    found = [
        _params(tmp_path / f"{n}.tar", draft, tmp_path / n) for n in ("whole", "stopped", "minutes")
    ]
    assert {step for step, _ in found} == {steps}
    for _, params in found[1:]:
        jax.tree.map(np.testing.assert_array_equal, params, found[0][1])
    assert stopped.training_loss == by_the_minute.training_loss == whole.training_loss
    start = draft.start()
    assert any(
        (a != b).any() for a, b in zip(*map(jax.tree.leaves, (start, found[0][1])), strict=True)
    )


def test_a_finished_draft_is_a_row_and_an_unfinished_one_is_left(folder, tmp_path):
    path, said = tmp_path / "rows.jsonl", []

    def measure(deadline):
        cells = training_cells(deadline, folders=[folder], out=tmp_path)
        return measure_cells(cells, REHEARSAL.hash_of, path, deadline=math.inf, say=said.append)

    progress = measure(time.time())
    assert (progress.measured, progress.left, path.exists()) == (0, 1, False)
    assert "1 of 3 steps are done" in said[-1]
    assert (measure(math.inf).measured, measure(math.inf).measured) == (1, 0)
    (row,) = read_rows(path)
    assert (row.kind, row.pair, row.value("steps")) == ("training", "tiny", 3)
    assert row.value("trained_tokens") == 3 * 2 * 16
    assert row.value("held_out") == {}
    assert "tiny" in summary([row])
    # Another recipe is another cell, and does not go on from the checkpoint of this one.
    packed_drafts.write(folder, steps=4)
    assert measure(time.time()).left == 1
    assert "1 of 4 steps are done" in said[-1]
    assert len(list(tmp_path.glob("draft-tiny-*.tar"))) == 2


def test_what_cannot_be_read_is_named(folder, tmp_path):
    draft, archive = read_packed(folder), tmp_path / "draft.tar"
    archive.write_bytes(b"no archive")
    with pytest.raises(CheckpointError, match="move it away to train from the start"):
        train_packed(draft, archive, until=_NOW)
    with pytest.raises(CheckpointError, match=r"holds no training\.json; make the folder with"):
        read_packed(tmp_path)
    shutil.rmtree(folder / "responses")
    with pytest.raises(ValueError, match="responses holds no responses"):
        draft.train()
    path = folder / "training.json"
    values = json.loads(path.read_text())
    for change, message in (
        ({"version": 2}, "pack the draft again"),
        ({"recipe": {"steps": 0}}, r"training\.json is damaged"),
    ):
        path.write_text(json.dumps(values | change))
        with pytest.raises(CheckpointError, match=message):
            read_packed(folder)


def test_a_packed_draft_keeps_its_recipe(folder):
    draft = read_packed(folder)
    assert draft.recipe == dataclasses.replace(packed_drafts.RECIPE, steps=3)
    assert draft.model().vocab_size == 32
    assert draft.held_out() is None
