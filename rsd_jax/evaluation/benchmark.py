"""One run that compares every method with autoregressive decoding and with other engines."""

import dataclasses
from collections.abc import Callable, Sequence

from rsd_jax.core.types import LoadedModel
from rsd_jax.engine.decoding import required_capacity
from rsd_jax.engine.methods import Method, build_method
from rsd_jax.engine.request import Sampling
from rsd_jax.evaluation.comparison import PeerRun, compare
from rsd_jax.evaluation.floors import decode_floor
from rsd_jax.evaluation.measured_rows import comparison_rows, with_times
from rsd_jax.evaluation.peers import Peer
from rsd_jax.evaluation.timing import BlockTimes, time_blocks
from rsd_jax.records.rows import Row

Prompts = Sequence[Sequence[int]]


def benchmark_methods(length: int) -> list[Method]:
    """Autoregressive decoding, two short chains, every method at one draft length, and coupling."""
    branching = (2, 2) + (1,) * (length - 2)
    return [
        build_method("ar"),
        build_method("sd", length=2),
        build_method("sd", length=length),
        build_method("spectr", num_drafts=3, length=length),
        build_method("rsd_c", branching=branching),
        build_method("rsd_c", branching=branching, verifier="coupling"),
        build_method("rsd_s", width=4, length=length),
        build_method("rsd_s", width=4, length=length, verifier="coupling"),
    ]


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One method at one batch size.

    Attributes:
      row: rates, counts and phases in the result schema.
      times: times of the phases.
    """

    row: Row
    times: BlockTimes


def run_benchmark(
    methods: Sequence[Method],
    target: LoadedModel,
    draft: LoadedModel,
    prompts: Prompts,
    sampling: Sampling,
    *,
    batch_size: int,
    pair: str,
    task: str,
    repeats: int,
    report: Callable[[str], None],
    peers: Sequence[Peer] = (),
) -> tuple[list[Measurement], list[PeerRun]]:
    """Rates of whole calls and times of single blocks, for every method.

    Args:
      methods: the first is autoregressive decoding.
      target, draft, prompts, sampling: as for `compare`.
      batch_size: rows decoded together.
      pair, task: names in the rows.
      repeats: how often every phase is timed.
      report: called with a line of text after each step.
      peers: other engines, of which only whole calls are timed.
    """
    measured, others = compare(
        methods, target, draft, prompts, sampling, report, batch_size=batch_size, peers=peers
    )
    rows = comparison_rows(
        measured, target, draft, sampling, source="benchmark", pair=pair, task=task
    )
    times = time_blocks(
        methods,
        target,
        draft,
        list(prompts[:batch_size]),
        sampling,
        max_new_tokens=[512] * len(methods),
        repeats=repeats,
    )
    report("phases timed")
    context = max(map(len, prompts[:batch_size]))
    ours = []
    for row, taken in zip(rows, times, strict=True):
        assert row.decoding is not None
        decoding = dataclasses.replace(row.decoding, compile_time=taken.compile)
        timed = with_times(row, taken, times[0], context)
        ours.append(Measurement(dataclasses.replace(timed, decoding=decoding), taken))
    return ours, others


def capacity_ratio(
    method: Method,
    target: LoadedModel,
    draft: LoadedModel,
    prompts: Prompts,
    sampling: Sampling,
    *,
    small: int = 512,
    large: int = 4096,
    repeats: int = 7,
) -> float:
    """Block time at cache capacity `large` over that at `small`, with equal committed lengths."""
    longest = max(map(len, prompts))
    overrun = required_capacity(method.drafter, longest, 1) - longest - 1
    times = time_blocks(
        [method] * 2,
        unlimited(target),
        unlimited(draft),
        prompts,
        sampling,
        max_new_tokens=[capacity - longest - overrun for capacity in (small, large)],
        repeats=repeats,
    )
    return times[1].block / times[0].block


def unlimited(loaded: LoadedModel) -> LoadedModel:
    """The model without its limit on positions; a large cache is timed, but never filled."""
    return dataclasses.replace(loaded, model=loaded.model.with_max_positions(2**20))


def bandwidth_fraction(
    target: LoadedModel, times: BlockTimes, *, batch: int, context: int, bandwidth: float
) -> float:
    """Bytes per second of an autoregressive step (`decode_floor`) as a fraction of `bandwidth`."""
    floor = decode_floor(target.model, batch=batch, context=context, bandwidth=bandwidth)
    return floor.seconds / times.block
