"""A pytest plugin: counts XLA compilations and their seconds, for the end of the report."""

import jax

_COMPILED = "/jax/core/compile/backend_compile_duration"


class CompileMeter:
    """Listens to jax; programs compiled in subprocesses are not seen.

    Attributes:
      seconds: of each compilation so far.
    """

    def __init__(self):
        self.seconds: list[float] = []

    def __call__(self, event: str, duration: float, **_details) -> None:
        if event == _COMPILED:
            self.seconds.append(duration)

    def pytest_terminal_summary(self, terminalreporter) -> None:
        terminalreporter.write_line(
            f"{len(self.seconds)} XLA compilations, {sum(self.seconds):.1f} s in the compiler"
        )


def pytest_configure(config) -> None:
    meter = CompileMeter()
    jax.monitoring.register_event_duration_secs_listener(meter)
    config.pluginmanager.register(meter, "compile-meter")
