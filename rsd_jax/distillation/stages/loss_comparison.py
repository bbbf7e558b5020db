"""One draft per loss, from the same start: which one the target accepts."""

import dataclasses
import json
from typing import Any

import numpy as np

from rsd_jax.distillation.evaluate import evaluate_windows
from rsd_jax.distillation.stages.decoding import decode_draft
from rsd_jax.distillation.stages.training import distil
from rsd_jax.distillation.workspace import DRAFT, TARGET, Workspace
from rsd_jax.errors import ConfigError
from rsd_jax.records.complete_files import write_json
from rsd_jax.records.metrics import bootstrap_interval

RUNS = "losses"
"""Directory of the runs, one per objective."""


def compare_losses(workspace: Workspace) -> None:
    """Trains the draft with each of `config.losses.objectives` and measures what came of it.

    All else is the `draft` stage's: steps, batches, learning rate and the warm start. An objective
    of "cross_entropy" goes on with the text, without a target. What is measured goes to
    losses.json in the workspace after every objective: those that are there are not run again.

    Raises:
      ConfigError: what is there was made with other settings.
      as `training.distil` and `decoding.decode`.
    """
    path = workspace.root / "losses.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    settings = _settings(workspace)
    for objective in workspace.config["losses"]["objectives"]:
        if objective in results:
            if results[objective]["settings"] != settings:
                raise ConfigError(
                    f"{path} holds {objective!r} made with other settings of draft or decode; "
                    "move it and losses/ away, or set the old ones"
                )
            continue
        recipe = dataclasses.replace(workspace.recipe(DRAFT), objective=objective)
        run = f"{RUNS}/{objective}"
        distil(workspace, recipe, run)
        made = {"steps": recipe.steps, "settings": settings}
        results[objective] = made | measure_run(workspace, run)
        write_json(path, results)


def _settings(workspace: Workspace) -> dict[str, Any]:
    """All that the runs share, as it is after JSON."""
    draft, decode = (workspace.config[name] for name in (DRAFT, "decode"))
    shared = json.loads(json.dumps({"draft": draft, "decode": decode}, default=dict))
    del shared["draft"]["recipe"]["objective"]
    return shared


def measure_run(workspace: Workspace, run: str) -> dict[str, Any]:
    """Held-out means with 95 % intervals over windows, and rows of decoding, of a draft.

    Returns:
      "windows": how many; "heldout": value and interval by the names of `evaluate`; "rows": see
      `DecodedRow`.
    """
    target, draft = workspace.target, workspace.loaded(DRAFT, run)
    recipe = workspace.recipe(DRAFT)
    windows = workspace.text("heldout").spread_windows(
        count=4 * recipe.eval_windows, length=recipe.window
    )
    model = workspace.model(DRAFT)
    means, by_window = evaluate_windows(
        model,
        draft.params,
        windows.tokens,
        teacher=(workspace.model(TARGET), target.params),
        layout=workspace.layout,
    )
    held_out = {
        name: [means[name], *bootstrap_interval(values, np.ones_like(values))]
        for name, values in by_window.items()
    }
    rows = decode_draft(workspace, target, draft)
    return {
        "windows": len(windows.tokens),
        "heldout": held_out,
        "rows": [dataclasses.asdict(row) for row in rows],
    }
