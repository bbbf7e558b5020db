"""How well a draft fits the target's laws that are stored with held-out responses."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from rsd_jax.core.processes import read
from rsd_jax.core.sharding import MeshLayout
from rsd_jax.core.types import LanguageModel, Params
from rsd_jax.distillation.data.windows import Top, Windows
from rsd_jax.distillation.losses import expected_acceptance, forward_kl
from rsd_jax.distillation.responses.source import ResponseSource
from rsd_jax.distillation.settings import TrainingSettings
from rsd_jax.distillation.training.step import Batch, as_batch

TEMPERATURES = (1.0, 0.3)


@functools.partial(jax.jit, static_argnums=0)
def _measures(model: LanguageModel, params: Params, batch: Batch) -> dict[str, jax.Array]:
    """f32[B, length] by name, a number per label."""
    assert batch.top is not None
    logits = model.score(params, batch.windows[:, :-1])
    likeliest = jnp.take_along_axis(
        batch.top.ids, batch.top.values.argmax(-1, keepdims=True), axis=-1
    )
    measured = {
        "forward_kl": forward_kl(batch.top, logits),
        "greedy_agreement": (logits.argmax(-1) == likeliest[..., 0]).astype(jnp.float32),
    }
    for t in TEMPERATURES:
        measured[f"acceptance_t{t:g}"] = expected_acceptance(batch.top, logits, temperature=t)
    return measured


def evaluate_stored(
    model: LanguageModel,
    params: Params,
    windows: Windows,
    *,
    batch_size: int = 8,
    layout: MeshLayout | None = None,
) -> dict[str, float]:
    """Means over the labels of responses; the target does not run.

    The last windows that do not fill a batch are left out. With a layout, the windows go to the
    mesh of the parameters.

    Args:
      model: the draft, with the ids of the windows.
      params: of the draft.
      windows: with `mask` and `top`.
      batch_size: windows scored together.
      layout: of the mesh.

    Returns:
      - "forward_kl", nats per token, and "acceptance_t{T}" for each T of `TEMPERATURES`, both with
        the rest of the target's law as one outcome, so the first is a lower bound and the second an
        upper bound (see `truncated`). Tokens that the draft does not know are left out of the law.
      - "greedy_agreement", how often both laws have the same likeliest token: the acceptance at
        T = 0 of a draft that knows the token.
    """
    mask, stored = windows.mask, windows.top
    assert mask is not None
    assert stored is not None
    batch_size = min(batch_size, len(windows.tokens))
    sums: dict[str, float] = {}
    labels = 0.0
    for first in range(0, len(windows.tokens) - batch_size + 1, batch_size):
        rows = slice(first, first + batch_size)
        part = Windows(windows.tokens[rows], mask[rows], Top(*(array[rows] for array in stored)))
        measured = read(_measures(model, params, as_batch(part, layout, top=True)))
        labels += float(mask[rows].sum())
        for name, values in measured.items():
            kept = np.where(mask[rows], values, 0.0).sum(dtype=np.float64)
            sums[name] = sums.get(name, 0.0) + float(kept)
    return {name: total / max(labels, 1.0) for name, total in sums.items()}


def stored_evaluation(
    model: LanguageModel,
    source: ResponseSource,
    recipe: TrainingSettings,
    layout: MeshLayout | None = None,
) -> Callable[[Params], dict[str, float]]:
    """`evaluate_stored` on the recipe's number of windows, as `evaluate` of `train`.

    Args:
      model: the draft, with the ids of the windows.
      source: held-out responses with stored log probabilities.
      recipe: gives number and size of the windows.
      layout: of the mesh.
    """
    windows = source.spread(recipe.eval_windows, recipe.window)
    size = recipe.eval_batch_size
    return lambda params: evaluate_stored(model, params, windows, batch_size=size, layout=layout)
