"""A pytest plugin: prints the number of XLA compilations and their seconds after the tests.

The plugin works in one process and with pytest-xdist, whose workers pass their counts to the
controller. With `compilations` a test can list the programs that are compiled in a `with` block.
"""

import contextlib
from collections.abc import Iterator

import jax

_COMPILED = "/jax/core/compile/backend_compile_duration"
_KEY = "xla_compilations"
_SINGLE_OPERATION = 0.1  # seconds; operations outside of programs compile faster


@contextlib.contextmanager
def compilations() -> Iterator[list[str]]:
    """Yields a list that receives the name of every program compiled inside."""
    programs, listening = [], True

    def listen(event: str, duration: float, **details) -> None:
        if listening and event == _COMPILED:
            programs.append(details.get("fun_name", event))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield programs
    finally:
        listening = False


class CompileMeter:
    """Listens to jax; compilations in subprocesses are not counted.

    Attributes:
      seconds: the seconds of each compilation so far; on the controller, those of all workers.
    """

    def __init__(self):
        self.seconds: list[float] = []

    def __call__(self, event: str, duration: float, **_details) -> None:
        if event == _COMPILED:
            self.seconds.append(duration)

    def pytest_sessionfinish(self, session) -> None:
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput[_KEY] = self.seconds

    def pytest_terminal_summary(self, terminalreporter) -> None:
        programs = sum(seconds > _SINGLE_OPERATION for seconds in self.seconds)
        terminalreporter.write_line(
            f"{len(self.seconds)} XLA compilations, {programs} of them longer than "
            f"{_SINGLE_OPERATION} s; {sum(self.seconds):.1f} s in the compiler"
        )


class WorkerCounts:
    """Adds the counts of a worker to the controller's; needs the hook of pytest-xdist."""

    def __init__(self, meter: CompileMeter):
        self._meter = meter

    def pytest_testnodedown(self, node) -> None:
        self._meter.seconds += getattr(node, "workeroutput", {}).get(_KEY, [])


def pytest_configure(config) -> None:
    meter = CompileMeter()
    jax.monitoring.register_event_duration_secs_listener(meter)
    config.pluginmanager.register(meter, "compile-meter")
    if config.pluginmanager.hasplugin("xdist"):
        config.pluginmanager.register(WorkerCounts(meter), "compile-meter-workers")
