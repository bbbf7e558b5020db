"""Writes a trained pair in Hugging Face's format and measures the written weights."""

import functools

import jax

from rsd_jax.core.types import Params
from rsd_jax.distillation.data import tokenizer as bpe
from rsd_jax.distillation.data.token_files import read_summary
from rsd_jax.distillation.evaluate import evaluate
from rsd_jax.distillation.workspace import DRAFT, TARGET, Workspace
from rsd_jax.models.checkpoint import save_model
from rsd_jax.records.complete_files import write_json


def rounded(params: Params) -> Params:
    """f32 parameters rounded to bfloat16, as they are stored."""
    return jax.tree.map(lambda leaf: leaf.astype("bfloat16").astype("float32"), params)


def export(workspace: Workspace) -> None:
    """Writes the trained models (bfloat16) with the tokenizer, and export.json in the workspace.

    All files of the tokenizer go along, its chat template and generation_config.json included.

    export.json holds the losses of the rounded weights on the held-out text of each source, in
    whole batches of the draft's `eval_batch_size` windows. A target that was trained elsewhere is
    not written again.

    Raises:
      CheckpointError: a stage has left no checkpoint.
    """
    models = {TARGET: workspace.target, DRAFT: workspace.loaded(DRAFT)}
    directory = workspace.export_dir
    trained = (DRAFT,) if workspace.target_directory else (TARGET, DRAFT)
    params = {name: loaded.params for name, loaded in models.items()}
    for name in trained:
        model = workspace.model(name)
        save_model(directory / name, model.config, params[name], dtype="bfloat16")
        bpe.copy_tokenizer(
            workspace.tokenizer_directory, directory / name, model=workspace.target_directory
        )
        params[name] = rounded(params[name])
    batch = workspace.recipe(DRAFT).eval_batch_size
    measure = functools.partial(evaluate, batch_size=batch, layout=workspace.layout)
    target = workspace.model(TARGET), params[TARGET]
    length = workspace.recipe(DRAFT).window
    result = {}
    for source in workspace.text("heldout").sources:
        count = max(1, len(source.tokens) // length)
        count -= count % batch if count > batch else 0  # `evaluate` leaves a remainder out
        windows = source.spread(count, length).tokens
        size = read_summary(workspace.root / "corpus" / source.name)["heldout"]
        result[source.name] = {
            "windows": count,
            "target": measure(*target, windows),
            "draft": measure(workspace.model(DRAFT), params[DRAFT], windows, teacher=target),
            "bytes_per_token": size["bytes"] / size["tokens"],
        }
    write_json(workspace.root / "export.json", result)
