"""The flags of each command, by its name; imports neither JAX nor anything else that takes long."""

from rsd_jax.cli.flags import (
    benchmark,
    calibrate,
    chat,
    check,
    distill,
    evaluate,
    generate,
    plot,
    stream,
)
from rsd_jax.cli.flags.command import Command

__all__ = ["COMMANDS", "Command"]

COMMANDS: dict[str, Command] = {
    "generate": generate.COMMAND,
    "chat": chat.COMMAND,
    "check": check.COMMAND,
    "evaluate": evaluate.COMMAND,
    "stream": stream.COMMAND,
    "plot": plot.COMMAND,
    "benchmark": benchmark.COMMAND,
    "calibrate": calibrate.COMMAND,
    "distill": distill.COMMAND,
}
