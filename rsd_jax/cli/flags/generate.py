"""`rsd generate`: its flags."""

import argparse

from rsd_jax.cli.flags import decoding
from rsd_jax.cli.flags.command import Command
from rsd_jax.errors import ConfigError


def _add_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("prompt")
    group.add_argument("--prompt", metavar="TEXT", help="the prompt itself")
    group.add_argument(
        "--prompt_file", metavar="FILE", help="a file with the prompt; - is standard input"
    )
    group.add_argument(
        "--parse_special",
        action="store_true",
        help="reads names of special tokens in the prompt as these tokens",
    )
    group.add_argument(
        "--chat",
        action="store_true",
        help="the prompt is a message of the user, in the tokenizer's chat template",
    )
    group.add_argument("--system", metavar="TEXT", help="with --chat: the system message")
    decoding.add_models(parser)
    decoding.add_method(parser)
    decoding.add_sampling(parser, max_new_tokens=128)
    decoding.add_show(parser)


def _check(args: argparse.Namespace) -> None:
    if args.prompt is not None and args.prompt_file is not None:
        raise ConfigError("--prompt and --prompt_file exclude each other; give one of them")
    if args.system is not None and not args.chat:
        raise ConfigError("--system is for conversations; give --chat")
    if args.parse_special and args.chat:
        raise ConfigError("--parse_special does not go with --chat, whose template has them")
    decoding.check_models(args)
    decoding.check_method(args)


COMMAND = Command(
    summary="Continues a prompt, and shows the text while it is decoded.",
    about="""\
The prompt comes from --prompt, from --prompt_file or from standard input, and is used as it
is, with the newline at its end if it has one. The text goes to standard output, the line of counts
and messages to standard error. Without --pair and --target, the small pair that ships is used.
""",
    examples=r"""
  rsd generate --prompt 'import os' --show accepted
  cat prompt.txt | rsd generate --method rsd_c --tree 3-2-1 --temperature 0
  rsd generate --prompt 'def f(x):' --method rsd_s --tree 6x5 --verifier coupling
  rsd generate --prompt 'import os' --method swift --option length=12 --option stop_below=0.5
  rsd generate --target /models/Llama-2-7b-chat-hf --draft /models/llama-68m --chat --prompt 'Hi!'
  rsd generate --target model.gguf --prompt_file prompt.txt
  rsd generate --pair smollm2 --source package --chat --prompt 'Why is the sky blue?'
""",
    add_flags=_add_flags,
    check=_check,
    keeps_programs=True,
)
