"""`rsd stream`: its flags."""

from rsd_jax.cli.flags.command import Command
from rsd_jax.cli.flags.processes import add_process_flags, check_processes

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
    add_flags=add_process_flags,
    check=check_processes,
    configs="evaluate",
    names=("swift_stream",),
    config="swift_stream",
)
