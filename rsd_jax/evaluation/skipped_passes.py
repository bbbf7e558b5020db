"""Time of a draft pass with skipped sub-layers against the bytes that the pass reads."""

import statistics
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from rsd_jax.core.skips import from_switches, num_switches
from rsd_jax.core.types import LoadedModel
from rsd_jax.evaluation.floors import kept_fraction
from rsd_jax.evaluation.measured_rows import header
from rsd_jax.evaluation.passes import committed_cache, pass_seconds, passes_per_call
from rsd_jax.evaluation.stopwatch import turn_order
from rsd_jax.records.parts import SkippedPass
from rsd_jax.records.rows import Row, config_hash


def random_sets(num_layers: int, *, most: int = 20, seed: int = 0) -> list[np.ndarray]:
    """Random skip sets bool[layers, 2]: the first is empty, each next set skips more sub-layers.

    Args:
      num_layers: layers of the target.
      most: how many sets; fewer if there are fewer distinct sizes.
      seed: seed of the draws.

    Raises:
      ConfigError: fewer than 3 layers.
    """
    size = num_switches(num_layers)
    counts = sorted({round(size * i / (most - 1)) for i in range(most)})
    rng = np.random.default_rng(seed)
    sets = []
    for count in counts:
        switches = np.zeros(size, bool)
        switches[rng.permutation(size)[:count]] = True
        sets.append(from_switches(switches))
    return sets


def time_skipped_passes(
    target: LoadedModel,
    sets: Sequence[np.ndarray],
    *,
    batch: int = 1,
    context: int = 128,
    steps: int | None = None,
    repeats: int = 15,
) -> list[SkippedPass]:
    """Times passes that skip the sub-layers of each set: one program, the sets in turns.

    Args:
      target: a model with sizes.
      sets: bool[layers, 2] each; the first skips nothing.
      batch: rows.
      context: committed positions of each row; their values do not matter.
      steps: passes per timed call; None for `passes_per_call`.
      repeats: turns; results are medians over turns, ratios are to the first set in the same turn.

    Raises:
      ConfigError: a target without sizes.
    """
    model = target.model
    cache = committed_cache(model, batch=batch, context=context)
    count = passes_per_call(model) if steps is None else steps
    listed = [jnp.asarray(skips) for skips in sets]

    def seconds(skips: jax.Array) -> float:
        return pass_seconds(target, cache, steps=count, skips=skips)

    for skips in listed:
        seconds(skips)
    taken = [
        {chosen: seconds(listed[chosen]) for chosen in turn_order(len(listed), turn)}
        for turn in range(repeats)
    ]
    return [
        SkippedPass(
            kept_fraction=kept_fraction(
                model, tuple(skips.sum(axis=0).tolist()), batch=batch, context=context
            ),
            t_draft=statistics.median(turn[index] for turn in taken),
            t_draft_ratio=statistics.median(turn[index] / turn[0] for turn in taken),
        )
        for index, skips in enumerate(sets)
    ]


def skipping_rows(
    passes: Sequence[SkippedPass],
    sets: Sequence[np.ndarray],
    target: LoadedModel,
    *,
    pair: str,
    batch: int,
    context: int,
) -> list[Row]:
    """Result rows, one per pass.

    Args:
      passes: from `time_skipped_passes` with `target`, `sets`, `batch` and `context`.
      pair: name of the target in the rows.
    """
    model = target.model
    settings = {
        "pair": pair,
        "batch": batch,
        "context": context,
        "dtype": model.dtype,
        "layers": model.num_layers,
    }
    shared = header(
        target,
        source="benchmark",
        kind="skipping",
        experiment="skipping",
        pair=pair,
        task="-",
        method="target",
        draft_length=0,
        batch_size=batch,
        context_length=context,
        config_hash=config_hash(settings),
    )
    return [
        Row(
            **shared,
            tree=f"{skips.size - skips.sum()} of {skips.size}",
            skipping=one,
        )
        for one, skips in zip(passes, sets, strict=True)
    ]
