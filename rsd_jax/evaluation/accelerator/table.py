"""Part `table`: rates of the device, then a block of each method beside autoregressive decoding."""

import functools
from typing import Any

from rsd_jax.engine.methods import Method, build_method
from rsd_jax.evaluation.accelerator.bench import Bench, DraftCost
from rsd_jax.evaluation.accelerator.cells import Cell
from rsd_jax.evaluation.accelerator.settings import forced_swift, method_of
from rsd_jax.evaluation.device_rates import matmul_rate
from rsd_jax.evaluation.floors import decode_floor
from rsd_jax.evaluation.measured_rows import timing_part
from rsd_jax.evaluation.timing import BlockTimes, block_times
from rsd_jax.records.device_parts import BlockCost, DeviceRates
from rsd_jax.records.metrics import realised_fraction

PART = "table"


def table_cells(bench: Bench) -> list[Cell]:
    """The rates, every method at batch 1, then one factor at a time."""
    settings = bench.settings
    one, varied = (1, settings.context), [method_of(tree) for tree in settings.varied]
    baseline = build_method("ar")
    cells = [_rates(bench), _block(bench, baseline, *one)]
    cells += [_block(bench, method_of(tree), *one) for tree in settings.trees]
    cells += [_block(bench, forced_swift(length), *one) for length in settings.swift_lengths]
    cells += [_block(bench, method_of(tree), *one) for tree in settings.couplings]
    places = [(batch, settings.context) for batch in settings.batches]
    for place in [*places, *((1, context) for context in settings.long_contexts)]:
        cells += [_block(bench, method, *place) for method in (baseline, *varied)]
    cells += [_block(bench, method_of(tree), *one) for tree in settings.self_trees]
    return cells


def _rates(bench: Bench) -> Cell:
    def fields() -> dict[str, Any]:
        named: dict[str, Any] = {"method": "device", "tree": "-", "draft_length": 0}
        return bench.header("device", batch=1, context=0, **named)

    def measure() -> dict[str, Any]:
        rate = matmul_rate(bench.settings.matrix)
        return {"device": DeviceRates(copy_bandwidth=bench.bandwidth, matmul_rate=rate)}

    return Cell(PART, "rates of the device", fields, measure)


def _block(bench: Bench, method: Method, batch: int, context: int) -> Cell:
    named = f"{method.name} {method.tree} {method.verifier_name}"
    fields = functools.partial(bench.header, "block", method, batch=batch, context=context)
    measure = functools.partial(_measure, bench, method, batch, context)
    return Cell(PART, f"{named}, batch {batch}, context {context}", fields, measure)


def _measure(bench: Bench, method: Method, batch: int, context: int) -> dict[str, Any]:
    contestants = [bench.baseline(batch, context)]
    if method.name != "ar":
        contestants.append(bench.timed(method, batch, context))
    times = block_times(contestants, bench.settings.repeats)
    cost = bench.draft_cost(method, batch, context)
    return {
        "timing": timing_part(times[-1], times[0], cost.r, cost.passes),
        "cost": _cost(bench, cost, times[-1], times[0], batch, context),
    }


def _cost(
    bench: Bench,
    cost: DraftCost,
    times: BlockTimes,
    baseline: BlockTimes,
    batch: int,
    context: int,
) -> BlockCost:
    floor = decode_floor(
        bench.target.model, batch=batch, context=context, bandwidth=bench.bandwidth
    )
    least = floor.seconds * (1.0 + cost.r_bytes * cost.passes)
    return BlockCost(
        compile_seconds=times.compile,
        bandwidth_fraction=least / times.block,
        realised_fraction_bytes=realised_fraction(
            baseline.block, times.block, cost.r_bytes, cost.passes
        ),
        peak_bytes=times.peak_bytes,
    )
