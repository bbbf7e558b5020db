"""Held-out loss of a model, and how often a draft's tokens would be accepted."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from rsd_jax.core.processes import read
from rsd_jax.core.sampling import Purpose, gumbels, row_keys
from rsd_jax.core.sharding import MeshLayout
from rsd_jax.core.types import LanguageModel, Params
from rsd_jax.core.warp import make_warp
from rsd_jax.distillation.losses import cross_entropy, expected_acceptance, forward_kl, log_law
from rsd_jax.distillation.ranks import (
    expected_block_efficiency,
    rank_acceptance,
    rank_probabilities,
)
from rsd_jax.distillation.simulation import block_starts, simulated_tokens
from rsd_jax.distillation.training.placement import place_rows
from rsd_jax.engine.methods import build_method

TEMPERATURES = (1.0, 0.3)

RANKS = 4
"""How many siblings' acceptances are measured."""

TREES = {"sd_4": (1, 1, 1, 1), "rsd_c_2-2-1-1": (2, 2, 1, 1)}
"""Branchings whose block efficiency is estimated, by their names in the results."""

SIMULATED = {"rsd_s_6x5": ("rsd_s", {"width": 6, "length": 5})}
"""Methods whose trees have no constant branching; their blocks are simulated, see `simulation`."""

BLOCKS = 16
"""Simulated blocks per window."""

_SEED = 0  # of the siblings; fixed, so that evaluations differ only by the models


_Arrays = dict[str, jax.Array]


@functools.partial(jax.jit, static_argnums=0)
def _losses(model: LanguageModel, params: Params, windows: jax.Array) -> tuple[_Arrays, _Arrays]:
    losses = cross_entropy(model.score(params, windows[:, :-1]), windows[:, 1:])
    return {"loss": losses.mean()}, {"loss": losses.mean(1)}


@functools.partial(jax.jit, static_argnums=(0, 1))
def _pair_losses(
    target: LanguageModel,
    draft: LanguageModel,
    target_params: Params,
    params: Params,
    windows: jax.Array,
    ids: jax.Array,
) -> tuple[_Arrays, _Arrays]:
    """Means over all windows i32[B, 1 + length], f32[], and of each window, f32[B].

    The keys of a window's siblings come from `ids` i32[B].
    """
    target_logits = target.score(target_params, windows[:, :-1])
    logits = draft.score(params, windows[:, :-1])
    by_position = {
        "loss": cross_entropy(logits, windows[:, 1:]),
        "forward_kl": forward_kl(target_logits, logits),
    }
    by_rank = {}
    keys = row_keys(_SEED, ids)
    noise = gumbels(keys, Purpose.DRAFT, logits.shape[1:])
    ranks = min(RANKS, logits.shape[-1])
    for t in TEMPERATURES:
        accepted = expected_acceptance(target_logits, logits, temperature=t)
        by_position[f"acceptance_t{t:g}"] = accepted
        sums = rank_probabilities(log_law(target_logits, t), log_law(logits, t), noise, ranks)
        by_rank[f"_reached_t{t:g}"], by_rank[f"_accepted_t{t:g}"] = (x.mean((0, 1)) for x in sums)
        for name, (method, options) in SIMULATED.items():
            drafted = build_method(method, **options)
            starts = block_starts(logits.shape[1], drafted.drafter.shape.depth, BLOCKS)
            if len(starts):
                by_position[f"block_efficiency_t{t:g}_{name}"] = simulated_tokens(
                    drafted,
                    target_logits,
                    logits,
                    starts,
                    warp=make_warp(t),
                    keys=keys,
                    backend=target.backend,
                ).astype(jnp.float32)
    means = {name: values.mean() for name, values in by_position.items()}
    return means | by_rank, {name: values.mean(1) for name, values in by_position.items()}


def _with_ranks(means: dict[str, np.ndarray]) -> dict[str, float]:
    """Replaces means of rank probabilities by acceptances of ranks and block efficiencies."""
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
    model: LanguageModel,
    params: Params,
    windows: np.ndarray,
    *,
    teacher: tuple[LanguageModel, Params] | None = None,
    batch_size: int = 8,
    layout: MeshLayout | None = None,
) -> dict[str, float]:
    """Means over the windows i32[N, 1 + length], from f32 logits.

    All contexts are held-out text; nothing is decoded. The last N mod batch_size windows are left
    out. With a layout, the windows go to the mesh of the parameters.

    Returns:
      "loss", nats per token; with a teacher also

      - "forward_kl", nats per token;
      - "acceptance_t{T}" for each T of `TEMPERATURES`: mean over positions of sum min(p, q);
      - "acceptance_t{T}_rank{k}", k = 1 to `RANKS`: how often the k-th of several siblings drawn
        without replacement is accepted, given that siblings 1 to k - 1 were rejected, from one
        draw of siblings per position under a fixed seed (see `ranks`);
      - "block_efficiency_t{T}_{tree}" for `TREES`: tokens per target call that follow from these
        acceptances if positions are independent (see `expected_block_efficiency`);
      - the same for `SIMULATED`: mean over `BLOCKS` simulated blocks per window, if a window is
        long enough for a block (see `simulation`).
    """
    return evaluate_windows(
        model, params, windows, teacher=teacher, batch_size=batch_size, layout=layout
    )[0]


def evaluate_windows(
    model: LanguageModel,
    params: Params,
    windows: np.ndarray,
    *,
    teacher: tuple[LanguageModel, Params] | None = None,
    batch_size: int = 8,
    layout: MeshLayout | None = None,
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """`evaluate`, and the means of each window, for an interval over windows.

    The interval is `metrics.bootstrap_interval(x, np.ones_like(x))`. With another draft's values
    on the same windows as `base` it is the paired interval of the ratio. The bootstrap takes
    windows as independent, so use windows that are spread out: neighbours in a document are alike.

    Returns:
      the result of `evaluate`, and f64[windows that are not left out] for each of its keys "loss"
      and, with a teacher, "forward_kl", "acceptance_t{T}" and the keys of `SIMULATED`.
    """
    batch_size = min(batch_size, len(windows))
    sums: dict[str, np.ndarray] = {}
    parts: dict[str, list[np.ndarray]] = {}
    batches = len(windows) // batch_size
    for i in range(batches):
        rows = slice(i * batch_size, (i + 1) * batch_size)
        batch = place_rows(layout, windows[rows])
        if teacher is None:
            values = _losses(model, params, batch)
        else:
            ids = jnp.arange(rows.start, rows.stop, dtype=jnp.int32)
            values = _pair_losses(teacher[0], model, teacher[1], params, batch, ids)
        means, by_window = read(values)
        for name, value in means.items():
            sums[name] = sums.get(name, 0.0) + np.asarray(value, np.float64)
        for name, value in by_window.items():
            parts.setdefault(name, []).append(np.asarray(value, np.float64))
    whole = _with_ranks({name: total / batches for name, total in sums.items()})
    return whole, {name: np.concatenate(part) for name, part in parts.items()}
