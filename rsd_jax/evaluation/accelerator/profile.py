"""Part `profile`: the operations of a block that take the most time, from a trace."""

import collections
import functools
import pathlib
import re
import tempfile
from collections.abc import Sequence
from typing import Any

import jax

from rsd_jax.engine.methods import Method, build_method
from rsd_jax.errors import ConfigError
from rsd_jax.evaluation.accelerator.bench import Bench
from rsd_jax.evaluation.accelerator.cells import Cell
from rsd_jax.evaluation.accelerator.settings import forced_swift, method_of
from rsd_jax.records.device_parts import Profile

PART = "profile"

_MOST = 15  # operations of a row
_NUMBERS = re.compile(r"[._]\d+")
_AROUND = ("while", "cond", "call")  # operations whose time is that of others


def profile_cells(bench: Bench) -> list[Cell]:
    """Autoregressive decoding and every method of the table at batch 1."""
    settings = bench.settings
    methods = [build_method("ar"), *(method_of(tree) for tree in settings.trees)]
    methods += [forced_swift(length) for length in settings.swift_lengths[:1]]
    return [_cell(bench, method) for method in methods]


def _cell(bench: Bench, method: Method) -> Cell:
    context = bench.settings.context
    fields = functools.partial(bench.header, "profile", method, batch=1, context=context)

    def measure() -> dict[str, Any]:
        contestant = bench.timed(method, 1, context, phases=False)
        state = contestant.fresh_state()
        with tempfile.TemporaryDirectory() as folder:
            with jax.profiler.trace(folder):
                jax.block_until_ready(contestant.advance(state))
            taken = operation_seconds(pathlib.Path(folder))
        blocks = bench.settings.blocks
        longest = sorted(taken, key=taken.__getitem__, reverse=True)[:_MOST]
        part = Profile(
            operations={name: taken[name] / blocks for name in longest},
            t_operations=sum(taken.values()) / blocks,
        )
        return {"profile": part}

    return Cell(PART, f"{method.name} {method.tree}", fields, measure)


def operation_seconds(folder: pathlib.Path) -> dict[str, float]:
    """Seconds by operation of the compiled programs in a trace.

    Args:
      folder: that `jax.profiler.trace` wrote to.

    Raises:
      ConfigError: the folder holds no trace, or no operation of a compiled program is in it.
    """
    files = sorted(folder.rglob("*.xplane.pb"))
    if not files:
        raise ConfigError(f"{folder} holds no trace; the profiler wrote nothing")
    planes = list(jax.profiler.ProfileData.from_file(str(files[-1])).planes)
    # Beside an accelerator, what the host says of an operation is not time on the device.
    on_device = [plane for plane in planes if plane.name.startswith("/device:")]
    seconds = _summed(on_device) or _summed(planes)
    if not seconds:
        raise ConfigError("the trace holds no operation of a compiled program")
    return seconds


def _summed(planes: Sequence[Any]) -> dict[str, float]:
    """Seconds by operation of all events of some planes."""
    seconds: dict[str, float] = collections.defaultdict(float)
    events = (event for plane in planes for line in plane.lines for event in line.events)
    for event in events:
        if (name := _operation(event)) is not None:
            seconds[_NUMBERS.sub("", name)] += event.duration_ns * 1e-9
    return seconds


def _operation(event: Any) -> str | None:
    """Name of the operation that an event is of; None for other events."""
    name = next((str(value) for key, value in event.stats if key == "hlo_op"), None)
    return None if name is None or name.startswith(_AROUND) else name
