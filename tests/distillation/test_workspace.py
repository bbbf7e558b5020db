"""Models of a workspace are loaded as everywhere else."""

import ml_collections
import pytest

from rsd_jax.core.backend import ACCELERATOR, CPU
from rsd_jax.distillation.workspace import Workspace
from rsd_jax.models import loading


@pytest.mark.parametrize("backend", [CPU, ACCELERATOR])
def test_a_workspace_decodes_as_load_model_would(tmp_path, monkeypatch, backend):
    """On an accelerator its models read the prefix as an accelerator does."""
    monkeypatch.setattr(loading, "backend_of", lambda layout: backend)
    directory = loading.shipped_pair_directory("quickstart") / "draft"
    shape = {
        "vocab_size": 4096,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_layers": 1,
        "num_heads": 2,
        "num_kv_heads": 1,
        "head_dim": 8,
    }
    config = ml_collections.ConfigDict(
        {"target_directory": str(directory), "target_dtype": "float32", "draft": {"model": shape}}
    )
    workspace = Workspace(config, tmp_path)
    assert workspace.target.model == loading.load_model(directory).model
    for model in (workspace.target.model, workspace.model("target"), workspace.model("draft")):
        assert model.backend is backend
