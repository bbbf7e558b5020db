"""Part `curves`: time of a target pass against nodes, context, batch and skipped sub-layers."""

import functools
import statistics
from typing import Any

from rsd_jax.core.types import KVCache
from rsd_jax.evaluation.accelerator.bench import Bench
from rsd_jax.evaluation.accelerator.cells import Cell
from rsd_jax.evaluation.passes import committed_cache, pass_seconds, passes_per_call
from rsd_jax.evaluation.skipped_passes import random_sets, time_skipped_passes
from rsd_jax.evaluation.stopwatch import turn_order
from rsd_jax.records.device_parts import WidePass

PART = "curves"


def curve_cells(bench: Bench) -> list[Cell]:
    """Nodes first, then batch and context, for one node and for several, then skipped passes."""
    settings = bench.settings
    cells = [_wide(bench, nodes, 1, settings.context) for nodes in settings.nodes]
    for nodes in (settings.wide_nodes, 1):
        cells += [_wide(bench, nodes, batch, settings.context) for batch in settings.curve_batches]
        cells += [_wide(bench, nodes, 1, context) for context in settings.curve_contexts]
    return cells + [_skipping(bench, index) for index in range(1, settings.skip_sets)]


def _wide(bench: Bench, nodes: int, batch: int, context: int) -> Cell:
    def fields() -> dict[str, Any]:
        named: dict[str, Any] = {"method": "target", "tree": str(nodes), "draft_length": 0}
        return bench.header("pass", batch=batch, context=context, **named)

    name = f"{nodes} nodes, batch {batch}, context {context}"
    return Cell(PART, name, fields, functools.partial(_measure, bench, nodes, batch, context))


def _measure(bench: Bench, nodes: int, batch: int, context: int) -> dict[str, Any]:
    model = bench.target.model
    cache = committed_cache(model, batch=batch, context=context)
    steps = passes_per_call(model)
    widths = sorted({1, nodes})

    def seconds(width: int, cache: KVCache = cache) -> float:
        return pass_seconds(bench.target, cache, steps=steps, nodes=width)

    for width in widths:
        seconds(width)
    taken = [
        {widths[i]: seconds(widths[i]) for i in turn_order(len(widths), turn)}
        for turn in range(bench.settings.repeats)
    ]
    part = WidePass(
        nodes=nodes,
        t_pass=statistics.median(turn[nodes] for turn in taken),
        t_pass_ratio=statistics.median(turn[nodes] / turn[1] for turn in taken),
    )
    return {"wide_pass": part}


def _skipping(bench: Bench, index: int) -> Cell:
    """The pass that skips the set of this index, beside the whole pass."""
    settings = bench.settings
    context = settings.context

    def fields() -> dict[str, Any]:
        named: dict[str, Any] = {"method": "target", "tree": f"set {index}", "draft_length": 0}
        return bench.header("skipping", batch=1, context=context, **named)

    def measure() -> dict[str, Any]:
        layers = bench.target.model.num_layers
        every = random_sets(layers, most=settings.skip_sets)
        sets = [every[0], every[index]]
        passes = time_skipped_passes(bench.target, sets, context=context, repeats=settings.repeats)
        return {"skipping": passes[1]}

    return Cell(PART, f"set {index} of skipped sub-layers", fields, measure)
