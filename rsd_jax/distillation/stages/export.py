"""Writes a trained pair in Hugging Face's format and measures the written weights."""

import functools
from typing import Any

import jax

from rsd_jax.core.processes import on_writer, read
from rsd_jax.core.types import Params
from rsd_jax.distillation.data import tokenizer as bpe
from rsd_jax.distillation.data.token_files import read_summary
from rsd_jax.distillation.evaluate import evaluate
from rsd_jax.distillation.evaluate_stored import evaluate_stored
from rsd_jax.distillation.workspace import DRAFT, HELD_OUT, TARGET, Workspace
from rsd_jax.models.checkpoint import save_model
from rsd_jax.records.complete_files import write_json


def rounded(params: Params) -> Params:
    """f32 parameters rounded to bfloat16, as they are stored."""
    return jax.tree.map(lambda leaf: leaf.astype("bfloat16").astype("float32"), params)


def export(workspace: Workspace) -> None:
    """Writes the trained models (bfloat16) with the tokenizer, and export.json in the workspace.

    All files of the tokenizer go along, its chat template and generation_config.json included, and
    the token_map.json of a draft that knows only some tokens. A target that was trained elsewhere
    is not written again.

    export.json holds what the rounded weights give on the held-out text of each source, in whole
    batches of the draft's `eval_batch_size` windows; without text, on held-out responses.

    Raises:
      CheckpointError: a stage has left no checkpoint.
    """
    params = {DRAFT: workspace.params(DRAFT)}
    if workspace.target_directory is None:
        params[TARGET] = workspace.params(TARGET)
    directory = workspace.export_dir
    for name in params:
        whole = read(params[name])  # all processes take part; one writes
        config = workspace.model(name).config
        on_writer(save_model, directory / name, config, whole, dtype="bfloat16")
        on_writer(
            bpe.copy_tokenizer,
            workspace.tokenizer_directory,
            directory / name,
            model=workspace.target_directory,
        )
    if workspace.token_map is not None:
        on_writer(workspace.token_map.save, directory / DRAFT)
    written = {name: rounded(own) for name, own in params.items()}
    if workspace.settings.mixture:
        # A target that was trained elsewhere is not rounded, as it is not written.
        target = written.get(TARGET) or workspace.target.params
        result = _on_text(workspace, target, written[DRAFT])
    else:
        result = _on_responses(workspace, written[DRAFT])
    on_writer(write_json, workspace.root / "export.json", result)


def _on_text(workspace: Workspace, target_params: Params, params: Params) -> dict[str, Any]:
    """By source: what target and draft give on held-out text."""
    batch, length = (
        getattr(workspace.recipe(DRAFT), name) for name in ("eval_batch_size", "window")
    )
    measure = functools.partial(evaluate, batch_size=batch, layout=workspace.layout)
    target = workspace.model(TARGET), target_params
    result = {}
    for source in workspace.text(HELD_OUT).sources:
        count = max(1, len(source.tokens) // length)
        count -= count % batch if count > batch else 0  # `evaluate` leaves a remainder out
        windows = source.spread(count, length).tokens
        size = read_summary(workspace.root / "corpus" / source.name)[HELD_OUT]
        result[source.name] = {
            "windows": count,
            "target": measure(*target, windows),
            "draft": measure(workspace.model(DRAFT), params, windows, teacher=target),
            "bytes_per_token": size["bytes"] / size["tokens"],
        }
    return result


def _on_responses(workspace: Workspace, params: Params) -> dict[str, Any]:
    """What the draft gives on held-out responses, as {"responses": ...}."""
    recipe = workspace.recipe(DRAFT)
    source = workspace.responses(top=True, split=HELD_OUT)
    batch = recipe.eval_batch_size
    count = -(-len(source.tokens) // (recipe.window * batch)) * batch
    measured = evaluate_stored(
        workspace.model(DRAFT),
        params,
        source.spread(count, recipe.window),
        batch_size=batch,
        layout=workspace.layout,
    )
    return {"responses": {"windows": count, "draft": measured}}
