"""Models of a workspace have the backend of their devices, as from `load_model`."""

import pytest

from rsd_jax.core.backend import ACCELERATOR, CPU
from rsd_jax.distillation.settings import ModelSettings, Settings, TrainingSettings
from rsd_jax.distillation.workspace import Workspace
from rsd_jax.models import loading, pairs
from tests import tiny


@pytest.mark.parametrize("backend", [CPU, ACCELERATOR])
def test_a_workspace_decodes_as_load_model_would(tmp_path, monkeypatch, backend):
    """On an accelerator the models of a workspace get the accelerator's backend."""
    monkeypatch.setattr(loading, "backend_of", lambda layout: backend)
    directory = pairs.shipped_pair_directory("quickstart") / "draft"
    draft = ModelSettings(model=tiny.TRAINED.config, recipe=TrainingSettings(steps=1))
    settings = Settings(target_directory=str(directory), draft_warm_start=draft)
    workspace = Workspace(settings, tmp_path, tmp_path / "export")
    stages = ("target", "draft_warm_start")
    assert workspace.target.model == loading.load_model(directory).model
    for model in (workspace.target.model, *map(workspace.model, stages)):
        assert model.backend is backend
