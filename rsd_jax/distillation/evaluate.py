"""Held-out loss of a model, and how often a draft's tokens would be accepted."""

import functools

import jax
import numpy as np

from rsd_jax.distillation.losses import cross_entropy, expected_acceptance, forward_kl
from rsd_jax.distillation.placement import place_rows
from rsd_jax.models.llama import LlamaModel
from rsd_jax.sharding import MeshLayout
from rsd_jax.types import Params

TEMPERATURES = (1.0, 0.3)


@functools.partial(jax.jit, static_argnums=0)
def _losses(model: LlamaModel, params: Params, windows: jax.Array) -> dict[str, jax.Array]:
    return {"loss": cross_entropy(model.score(params, windows[:, :-1]), windows[:, 1:]).mean()}


@functools.partial(jax.jit, static_argnums=(0, 1))
def _pair_losses(
    target: LlamaModel, draft: LlamaModel, target_params: Params, params: Params, windows: jax.Array
) -> dict[str, jax.Array]:
    target_logits = target.score(target_params, windows[:, :-1])
    logits = draft.score(params, windows[:, :-1])
    result = {
        "loss": cross_entropy(logits, windows[:, 1:]).mean(),
        "forward_kl": forward_kl(target_logits, logits).mean(),
    }
    for t in TEMPERATURES:
        accepted = expected_acceptance(target_logits, logits, temperature=t)
        result[f"acceptance_t{t:g}"] = accepted.mean()
    return result


def evaluate(
    model: LlamaModel,
    params: Params,
    windows: np.ndarray,
    *,
    teacher: tuple[LlamaModel, Params] | None = None,
    batch_size: int = 8,
    layout: MeshLayout | None = None,
) -> dict[str, float]:
    """Means over the windows i32[N, 1 + length], in fp32 logits.

    With a layout, on the mesh that the parameters are on.

    Returns:
      "loss", nats per token; with a teacher also "forward_kl" (nats per token) and
      "acceptance_t1", "acceptance_t0.3" (mean over positions of sum min(p, q) at T = 1 and 0.3,
      contexts being the held-out text). A remainder of N / batch_size windows is left out.
    """
    batch_size = min(batch_size, len(windows))
    sums: dict[str, float] = {}
    batches = len(windows) // batch_size
    for i in range(batches):
        batch = place_rows(layout, windows[i * batch_size : (i + 1) * batch_size])
        if teacher is None:
            values = _losses(model, params, batch)
        else:
            values = _pair_losses(teacher[0], model, teacher[1], params, batch)
        for name, value in jax.device_get(values).items():
            sums[name] = sums.get(name, 0.0) + float(value)
    return {name: total / batches for name, total in sums.items()}
