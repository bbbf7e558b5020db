"""Part `choices`: what `Backend` picks by the kind of device, and a block with other options."""

import dataclasses
import statistics
from typing import Any

from rsd_jax.core.backend import Backend, PrefixReads
from rsd_jax.engine.methods import Method
from rsd_jax.evaluation.accelerator.bench import Bench
from rsd_jax.evaluation.accelerator.cells import Cell
from rsd_jax.evaluation.accelerator.settings import method_of
from rsd_jax.evaluation.timing import take_turns
from rsd_jax.records.device_parts import Choice

PART = "choices"

_WHOLE = 2**20  # positions; more than any cache has


def choice_cells(bench: Bench) -> list[Cell]:
    """Nodes tested, for trees; then reads of the prefix, at two contexts."""
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

    def words(backend: Backend) -> str:
        return "all" if backend.all_nodes else "reached"

    def other(backend: Backend) -> Backend:
        return dataclasses.replace(backend, all_nodes=not backend.all_nodes)

    return _cell(bench, "nodes tested", method, bench.settings.context, "the other", words, other)


def _reads(bench: Bench, method: Method, context: int, reads: PrefixReads) -> Cell:
    """Reads of the committed prefix in chunks of one length, or whole."""

    def words(backend: Backend) -> str:
        found = backend.reads
        if found.whole_up_to == _WHOLE:
            return "whole"
        chunks = f"chunks of {found.chunk}"
        return f"{chunks}, whole up to {found.whole_up_to}" if found.whole_up_to else chunks

    def other(backend: Backend) -> Backend:
        return dataclasses.replace(backend, reads=reads)

    named = "whole" if reads.whole_up_to else f"chunks of {reads.chunk}"
    return _cell(bench, "prefix reads", method, context, named, words, other)


def _cell(
    bench: Bench, choice: str, method: Method, context: int, option: str, words: Any, other: Any
) -> Cell:
    """A cell of one option.

    Args:
      bench, method, context: what is timed, at batch 1.
      choice: what is chosen.
      option: the option, in the name of the cell.
      words: from a backend to its option in words.
      other: from the backend of this device to the backend with the option.
    """

    def fields() -> dict[str, Any]:
        return bench.header("choice", method, batch=1, context=context)

    def measure() -> dict[str, Any]:
        usual = bench.target.model.backend
        backends = (usual, other(usual))
        contestants = [
            bench.timed(method, 1, context, phases=False, backend=each) for each in backends
        ]
        taken = take_turns(contestants, bench.settings.repeats)
        default, changed = (statistics.median(each["block"]) for each in taken)
        part = Choice(
            choice=choice,
            option=words(backends[1]),
            default=words(usual),
            t_option=changed,
            t_default=default,
        )
        return {"chosen": part}

    name = f"{choice}: {option}, {method.name} {method.tree}, context {context}"
    return Cell(PART, name, fields, measure)
