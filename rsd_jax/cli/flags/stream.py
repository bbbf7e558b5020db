"""`rsd stream`: its flags."""

import argparse

from rsd_jax.cli.flags.command import Command


def _add_flags(parser: argparse.ArgumentParser) -> None:
    """Everything is in the configuration."""


COMMAND = Command(
    summary="Drafts with the target while searching for sub-layers to skip, prompt after prompt.",
    about="""\
This is SWIFT along a stream. Every instance is decoded by the method and by autoregressive
decoding. Rows of both go to results.jsonl in the configuration's `out_dir`, and the search
to a file. A stopped stream resumes.
Variants of the configuration: published, narrow, chain, search and adapted.
""",
    examples=r"""
  rsd stream --config swift_stream:chain --config.task.num_prompts=20
  rsd stream --config swift_stream:adapted
  rsd plot runs/swift_stream-chain/results.jsonl
""",
    add_flags=_add_flags,
    configs="evaluate",
    names=("swift_stream",),
    config="swift_stream",
)
