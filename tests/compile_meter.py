"""A pytest plugin: prints the number of XLA compilations and their seconds after the tests.

The plugin works in one process and with pytest-xdist, whose workers pass their counts to the
controller. With `compilations` a test can list the programs that are compiled in a `with` block.
"""

import contextlib
import threading
from collections.abc import Iterator

import jax

_COMPILED = "/jax/core/compile/backend_compile_duration"  # also of a program that is read
_READ = "/jax/compilation_cache/cache_hits"
_KEYS = ("xla_compilations", "xla_programs_read")
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
      compiled, read: the seconds of each compilation so far, and of each program that was read from
        the persistent cache instead; on the controller, those of all workers.
    """

    def __init__(self):
        self.compiled: list[float] = []
        self.read: list[float] = []
        self._reading = threading.local()

    def on_event(self, event: str, **_details) -> None:
        """The cache has the program whose duration the same thread reports next."""
        if event == _READ:
            self._reading.now = True

    def on_duration(self, event: str, duration: float, **_details) -> None:
        if event == _COMPILED:
            read = getattr(self._reading, "now", False)
            (self.read if read else self.compiled).append(duration)
            self._reading.now = False

    def pytest_sessionfinish(self, session) -> None:
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput.update(zip(_KEYS, (self.compiled, self.read), strict=True))

    def pytest_terminal_summary(self, terminalreporter) -> None:
        programs = sum(seconds > _SINGLE_OPERATION for seconds in self.compiled)
        terminalreporter.write_line(
            f"{len(self.compiled)} XLA compilations, {programs} of them longer than "
            f"{_SINGLE_OPERATION} s; {sum(self.compiled):.1f} s in the compiler; "
            f"{len(self.read)} programs read from the cache in {sum(self.read):.1f} s"
        )


class WorkerCounts:
    """Adds the counts of a worker to the controller's; needs the hook of pytest-xdist."""

    def __init__(self, meter: CompileMeter):
        self._meter = meter

    def pytest_testnodedown(self, node) -> None:
        output = getattr(node, "workeroutput", {})
        for seconds, key in zip((self._meter.compiled, self._meter.read), _KEYS, strict=True):
            seconds += output.get(key, [])


def pytest_configure(config) -> None:
    meter = CompileMeter()
    jax.monitoring.register_event_listener(meter.on_event)
    jax.monitoring.register_event_duration_secs_listener(meter.on_duration)
    config.pluginmanager.register(meter, "compile-meter")
    if config.pluginmanager.hasplugin("xdist"):
        config.pluginmanager.register(WorkerCounts(meter), "compile-meter-workers")
