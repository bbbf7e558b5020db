"""`rsd check`: its flags."""

import argparse

from rsd_jax.cli.flags.command import Command


def _add_flags(parser: argparse.ArgumentParser) -> None:
    """There is nothing to choose."""


COMMAND = Command(
    summary="Says what this machine can do: versions, devices, and a test of exactness and speed.",
    about="""\
Decodes prompts with the pair that ships, by autoregressive decoding and by two tree methods,
which have to give the same tokens; holds the output laws of verifiers, enumerated, against the
target's; and counts tokens per second. Takes up to a minute. Exit code 1 if a check fails.
""",
    examples="""
  rsd check
  JAX_PLATFORMS=cpu rsd check
""",
    add_flags=_add_flags,
    keeps_programs=True,
)
