"""Trains one draft per loss from the same start and compares their acceptance."""

import dataclasses
from typing import Any

import numpy as np

from rsd_jax.core.processes import on_writer
from rsd_jax.distillation.evaluate import evaluate_windows
from rsd_jax.distillation.settings import (
    DecodeSettings,
    DraftSettings,
    LossesSettings,
    TrainingSettings,
)
from rsd_jax.distillation.stages.decoding import decode_draft
from rsd_jax.distillation.stages.training import distil
from rsd_jax.distillation.workspace import DRAFT, TARGET, Workspace
from rsd_jax.errors import ConfigError
from rsd_jax.records.complete_files import write_json
from rsd_jax.records.json_objects import build, json_object
from rsd_jax.records.metrics import bootstrap_interval

RUNS = "losses"
"""Directory of the runs, one per objective."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Shared:
    """Settings that all runs share; the recipe's objective is left at its default."""

    draft: DraftSettings
    decode: DecodeSettings

    @classmethod
    def of(cls, workspace: Workspace) -> "_Shared":
        draft: DraftSettings = workspace.settings.section(DRAFT)
        recipe = dataclasses.replace(draft.recipe, objective=TrainingSettings.objective)
        return cls(
            draft=dataclasses.replace(draft, recipe=recipe),
            decode=workspace.settings.section("decode"),
        )


def compare_losses(workspace: Workspace) -> None:
    """Trains the draft with each of `losses.objectives` and measures each result.

    All other settings are those of the `draft` stage: steps, batches, learning rate and warm
    start. The objective "cross_entropy" trains on text, without a target. Results are written to
    losses.json in the workspace after every objective; objectives with results are not run again.

    Raises:
      ConfigError: losses.json has results of other settings.
      as `training.distil` and `decoding.decode_test_prompts`.
    """
    path = workspace.root / "losses.json"
    results = json_object(path.read_bytes(), f"{path}: ") if path.is_file() else {}
    shared = _Shared.of(workspace)
    losses: LossesSettings = workspace.settings.section("losses")
    for objective in losses.objectives:
        if objective in results:
            if build(_Shared, results[objective]["settings"], f"{path}: ") != shared:
                raise ConfigError(
                    f"{path} holds {objective!r} made with other settings of draft or decode; "
                    "move the file and losses/ away, or restore the settings"
                )
            continue
        recipe = dataclasses.replace(workspace.recipe(DRAFT), objective=objective)
        run = f"{RUNS}/{objective}"
        distil(workspace, recipe, run)
        made = {"steps": recipe.steps, "settings": dataclasses.asdict(shared)}
        results[objective] = made | measure_run(workspace, run)
        on_writer(write_json, path, results)


def measure_run(workspace: Workspace, run: str) -> dict[str, Any]:
    """Measures the draft of a run: held-out means with 95 % intervals over windows, and decoding.

    Returns:
      "windows": their number; "heldout": value and interval by the names of `evaluate`; "rows":
      see `DecodedRow`.
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
        batch_size=recipe.eval_batch_size,
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
