"""Adapts a target to draft for itself: its law with skipped sub-layers learns its whole law.

Layer dropout (Elhoushi et al. 2024, LayerSkip) with the target as its own teacher. A low-rank
adapter is trained with random sets of skipped sub-layers and, on some rows, with none skipped, so
that the whole law stays the same. The adapted target is a new target, close to the first.
"""

import functools
import os

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from rsd_jax.core.sampling import argmax
from rsd_jax.core.skips import from_switches, num_switches
from rsd_jax.core.types import LanguageModel, Params
from rsd_jax.distillation.data import documents
from rsd_jax.distillation.data.mixture import Mixture
from rsd_jax.distillation.evaluate import evaluate
from rsd_jax.distillation.layer_dropout_student import LayerDropoutStudent
from rsd_jax.distillation.losses import forward_kl
from rsd_jax.distillation.settings import LayerDropoutSettings, TrainingSettings
from rsd_jax.distillation.stages.export import rounded
from rsd_jax.distillation.training.train import train
from rsd_jax.distillation.workspace import HELD_OUT, SKIPPING, TARGET, Workspace
from rsd_jax.errors import ConfigError
from rsd_jax.models.adapter import save_adapter
from rsd_jax.models.hub import hub_name
from rsd_jax.records.complete_files import write_json

_MEASURED_SETS = 4


def train_layer_dropout(workspace: Workspace) -> None:
    """Trains the adapter, or resumes training, and writes the adapter and skipping.json.

    Args:
      workspace: gives the target, which is the teacher, and the text or the responses; the adapter
        goes to the folder `skipping` of its export directory.

    Raises:
      ConfigError: the target, the text or the responses are missing, or an option is missing or
        out of range.
      CheckpointError, NonFiniteLossError: see `train`.
    """
    if workspace.mesh is not None:
        raise ConfigError(f"the stage {SKIPPING} runs on one device; leave out the mesh")
    settings: LayerDropoutSettings = workspace.settings.section(SKIPPING)
    directory = workspace.export_dir
    target, recipe = workspace.target, settings.recipe
    model = workspace.model(TARGET, recipe.compute_dtype)
    student = LayerDropoutStudent(
        model, rank=settings.rank, fewest=settings.fewest, most=settings.most
    )
    windows = _data(workspace, settings, HELD_OUT).spread_windows(
        count=recipe.eval_windows, length=recipe.window
    )
    measure = functools.partial(
        _measured,
        student,
        workspace.model(TARGET, "float32"),
        windows=windows.tokens,
        batch_size=recipe.eval_batch_size,
        teacher=target.params,
    )
    state = train(
        student,
        recipe,
        _data(workspace, settings, "train"),
        workspace.root / SKIPPING,
        init=lambda: _start(student, target.params, recipe),
        teacher=(model, target.params),
        evaluate=measure,
    )
    flat = flax.traverse_util.flatten_dict(rounded(state.params["adapter"]))
    factors = {
        (*path[:-1], "kernel"): (np.asarray(a), np.asarray(flat[*path[:-1], "b"]))
        for path, a in flat.items()
        if path[-1] == "a"
    }
    named = workspace.settings.target_directory
    beside = workspace.target_directory or directory / TARGET
    base = named if hub_name(named) else os.path.relpath(beside, directory / SKIPPING)
    save_adapter(directory / SKIPPING, model.config, factors, base=base)
    before = _start(student, target.params, recipe)
    stored = before | {"adapter": flax.traverse_util.unflatten_dict(flat)}
    write_json(
        workspace.root / f"{SKIPPING}.json", {"before": measure(before), "after": measure(stored)}
    )


def _data(workspace: Workspace, settings: LayerDropoutSettings, split: str) -> Mixture:
    """A split of the text, or without text of the target's responses."""
    if settings.mixture:
        return documents.open_mixture(workspace.root / "corpus", settings.mixture, split)
    return Mixture((workspace.target_responses(split=split),))


def _start(student: LayerDropoutStudent, target: Params, recipe: TrainingSettings) -> Params:
    """A new adapter and a float32 copy of the target's parameters; steps donate the copy."""
    copied = jax.tree.map(lambda leaf: jnp.array(leaf, jnp.float32), target)
    key = jax.random.key(recipe.seed)
    return {"target": copied, "adapter": jax.jit(student.start)(copied, key)["adapter"]}


def _measured(
    student: LayerDropoutStudent,
    model: LanguageModel,
    params: Params,
    *,
    windows: np.ndarray,
    batch_size: int,
    teacher: Params,
) -> dict[str, float]:
    """Measures the adapted target on held-out windows, at all tokens, those of prompts included.

    Returns:
      "loss", nats per token of the whole adapted target; "forward_kl", KL(target || whole adapted
      target); "matchness_K" for K skipped sub-layers: how often the likeliest token is the same
      as without skipping, a mean over random sets.
    """
    adapted = jax.jit(student.adapted)(params)
    values = evaluate(model, adapted, windows, batch_size=batch_size)
    sums: dict[str, list[float]] = {"forward_kl": []}
    sizes = sorted({student.fewest, (student.fewest + student.most + 1) // 2, student.most})
    rows = min(batch_size, len(windows))
    for start in range(0, len(windows) - rows + 1, rows):
        tokens = jnp.asarray(windows[start : start + rows, :-1])
        whole, distance = _whole(model, adapted, teacher, tokens)
        sums["forward_kl"].append(float(distance))
        for size in sizes:
            for skips in _fixed_sets(model.num_layers, size):
                same = _same(model, adapted, tokens, whole, skips)
                sums.setdefault(f"matchness_{size}", []).append(float(same))
    return values | {name: float(np.mean(found)) for name, found in sums.items()}


@functools.partial(jax.jit, static_argnums=0)
def _whole(
    model: LanguageModel, params: Params, teacher: Params, tokens: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The likeliest tokens, and the mean KL divergence from the teacher."""
    logits = model.score(params, tokens)
    return argmax(logits), forward_kl(model.score(teacher, tokens), logits).mean()


@functools.partial(jax.jit, static_argnums=0)
def _same(
    model: LanguageModel, params: Params, tokens: jax.Array, whole: jax.Array, skips: jax.Array
) -> jax.Array:
    return (argmax(model.score(params, tokens, skips)) == whole).mean()


def _fixed_sets(num_layers: int, count: int) -> list[jax.Array]:
    """The same few random sets in every evaluation."""
    rng = np.random.default_rng(count)
    order = np.arange(num_switches(num_layers))
    return [
        jnp.asarray(from_switches(np.isin(order, rng.choice(order, count, replace=False))))
        for _ in range(_MEASURED_SETS)
    ]
