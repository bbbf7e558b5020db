"""Held-out loss of a model, and how often a draft's tokens would be accepted."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from rsd_jax.distillation.losses import cross_entropy, expected_acceptance, forward_kl, log_law
from rsd_jax.distillation.placement import place_rows
from rsd_jax.distillation.ranks import (
    expected_block_efficiency,
    rank_acceptance,
    rank_probabilities,
)
from rsd_jax.models.llama import LlamaModel
from rsd_jax.sampling import Purpose, gumbels, row_keys
from rsd_jax.sharding import MeshLayout
from rsd_jax.types import Params

TEMPERATURES = (1.0, 0.3)

RANKS = 4
"""Siblings whose acceptance is measured."""

TREES = {"sd_4": (1, 1, 1, 1), "rsd_c_2-2-1-1": (2, 2, 1, 1)}
"""Branchings whose block efficiency is estimated, by the names that the results have."""

_SEED = 0  # of the siblings: fixed, so that evaluations differ by the models alone


@functools.partial(jax.jit, static_argnums=0)
def _losses(model: LlamaModel, params: Params, windows: jax.Array) -> dict[str, jax.Array]:
    return {"loss": cross_entropy(model.score(params, windows[:, :-1]), windows[:, 1:]).mean()}


@functools.partial(jax.jit, static_argnums=(0, 1))
def _pair_losses(
    target: LlamaModel,
    draft: LlamaModel,
    target_params: Params,
    params: Params,
    windows: jax.Array,
    ids: jax.Array,
) -> dict[str, jax.Array]:
    """Means over windows i32[B, 1 + length], whose siblings are drawn by ids i32[B]."""
    target_logits = target.score(target_params, windows[:, :-1])
    logits = draft.score(params, windows[:, :-1])
    result = {
        "loss": cross_entropy(logits, windows[:, 1:]).mean(),
        "forward_kl": forward_kl(target_logits, logits).mean(),
    }
    noise = gumbels(row_keys(_SEED, ids), Purpose.DRAFT, logits.shape[1:])
    ranks = min(RANKS, logits.shape[-1])
    for t in TEMPERATURES:
        accepted = expected_acceptance(target_logits, logits, temperature=t)
        result[f"acceptance_t{t:g}"] = accepted.mean()
        sums = rank_probabilities(log_law(target_logits, t), log_law(logits, t), noise, ranks)
        result[f"_reached_t{t:g}"], result[f"_accepted_t{t:g}"] = (x.mean((0, 1)) for x in sums)
    return result


def _with_ranks(means: dict[str, np.ndarray]) -> dict[str, float]:
    """Ranks and trees in the place of the means that they come from."""
    result = {name: float(x) for name, x in means.items() if not name.startswith("_")}
    for t in TEMPERATURES:
        if f"_reached_t{t:g}" not in means:
            continue
        ranks = rank_acceptance(means[f"_reached_t{t:g}"], means[f"_accepted_t{t:g}"])
        for k, acceptance in enumerate(ranks, start=1):
            result[f"acceptance_t{t:g}_rank{k}"] = float(acceptance)
        for name, branching in TREES.items():
            if max(branching) <= len(ranks):
                efficiency = expected_block_efficiency(ranks, branching)
                result[f"block_efficiency_t{t:g}_{name}"] = efficiency
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

    Contexts are the held-out text throughout; nothing is decoded. A remainder of N / batch_size
    windows is left out.
    With a layout, on the mesh that the parameters are on.

    Returns:
      "loss", nats per token; with a teacher also

      - "forward_kl", nats per token;
      - per temperature T of `TEMPERATURES` "acceptance_t{T}", mean over positions of
        sum min(p, q);
      - "acceptance_t{T}_rank{k}", k = 1 to `RANKS`: how often the k-th of several siblings drawn
        without replacement is accepted, given that those before were rejected, by one draw of
        siblings per position under a fixed seed (see `ranks`);
      - "block_efficiency_t{T}_{tree}" for `TREES`: tokens per target call that these ranks make,
        were positions independent (see `expected_block_efficiency`).
    """
    batch_size = min(batch_size, len(windows))
    sums: dict[str, np.ndarray] = {}
    batches = len(windows) // batch_size
    for i in range(batches):
        rows = slice(i * batch_size, (i + 1) * batch_size)
        batch = place_rows(layout, windows[rows])
        if teacher is None:
            values = _losses(model, params, batch)
        else:
            ids = jnp.arange(rows.start, rows.stop, dtype=jnp.int32)
            values = _pair_losses(teacher[0], model, teacher[1], params, batch, ids)
        for name, value in jax.device_get(values).items():
            sums[name] = sums.get(name, 0.0) + np.asarray(value, np.float64)
    return _with_ranks({name: total / batches for name, total in sums.items()})
