"""Part `choices`: what is picked by the kind of device, and a block with the other options."""

import dataclasses
import statistics
from collections.abc import Callable
from typing import Any

from rsd_jax.core.backend import Backend, PrefixReads
from rsd_jax.engine.methods import Method
from rsd_jax.evaluation.accelerator.bench import Bench
from rsd_jax.evaluation.accelerator.cells import Cell
from rsd_jax.evaluation.accelerator.settings import method_of
from rsd_jax.evaluation.timing import take_turns
from rsd_jax.records.device_parts import Choice
from rsd_jax.verifiers.walk import NodeVerifier

PART = "choices"

_WHOLE = 2**20  # positions; more than any cache has


@dataclasses.dataclass(frozen=True)
class _Way:
    """One option: in words, and the method and the backend that take it."""

    words: str
    method: Method
    backend: Backend


_Ways = Callable[[], tuple[_Way, _Way]]


def choice_cells(bench: Bench) -> list[Cell]:
    """Nodes tested by each method; then reads of the prefix, at two contexts."""
    settings = bench.settings
    cells = [_nodes(bench, method_of(tree)) for tree in settings.varied]
    options = [PrefixReads(chunk=chunk, whole_up_to=0) for chunk in settings.chunks]
    options.append(PrefixReads(chunk=_WHOLE, whole_up_to=_WHOLE))
    for method in map(method_of, settings.reads):
        for context in (settings.context, *settings.long_contexts):
            cells += [_reads(bench, method, context, reads) for reads in options]
    return cells


def _nodes(bench: Bench, method: Method) -> Cell:
    """All nodes tested at once, or the reached ones, whichever is not the default."""

    def ways() -> tuple[_Way, _Way]:
        usual, verifier = bench.target.model.backend, method.verifier
        assert isinstance(verifier, NodeVerifier)
        is_all = usual.all_nodes or method.drafter.shape.max_siblings == 1
        other = dataclasses.replace(verifier, all_nodes=not is_all)
        names = ("all", "reached") if is_all else ("reached", "all")
        changed = dataclasses.replace(method, verifier=other)
        return _Way(names[0], method, usual), _Way(names[1], changed, usual)

    return _cell(bench, "nodes tested", method, bench.settings.context, "the other", ways)


def _reads(bench: Bench, method: Method, context: int, reads: PrefixReads) -> Cell:
    """Reads of the committed prefix in chunks of one length, or whole."""

    def ways() -> tuple[_Way, _Way]:
        usual = bench.target.model.backend
        other = dataclasses.replace(usual, reads=reads)
        first, second = (_Way(_in_words(b.reads), method, b) for b in (usual, other))
        return first, second

    return _cell(bench, "prefix reads", method, context, _in_words(reads), ways)


def _in_words(reads: PrefixReads) -> str:
    if reads.whole_up_to == _WHOLE:
        return "whole"
    chunks = f"chunks of {reads.chunk}"
    return f"{chunks}, whole up to {reads.whole_up_to}" if reads.whole_up_to else chunks


def _cell(
    bench: Bench, choice: str, method: Method, context: int, option: str, ways: _Ways
) -> Cell:
    """A cell of one option.

    Args:
      bench, method, context: what is timed, at batch 1.
      choice: what is chosen.
      option: the option, in the name of the cell.
      ways: returns the default on this device and the option.
    """

    def fields() -> dict[str, Any]:
        return bench.header("choice", method, batch=1, context=context)

    def measure() -> dict[str, Any]:
        default, other = ways()
        contestants = [
            bench.timed(way.method, 1, context, phases=False, backend=way.backend)
            for way in (default, other)
        ]
        taken = take_turns(contestants, bench.settings.repeats)
        seconds = [statistics.median(each["block"]) for each in taken]
        part = Choice(
            choice=choice,
            option=other.words,
            default=default.words,
            t_option=seconds[1],
            t_default=seconds[0],
        )
        return {"chosen": part}

    name = f"{choice}: {option}, {method.name} {method.tree}, context {context}"
    return Cell(PART, name, fields, measure)
