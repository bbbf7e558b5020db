"""`rsd generate`: its flags."""

import argparse
import pathlib

from rsd_jax.cli.flags import decoding
from rsd_jax.cli.flags.command import Command
from rsd_jax.errors import ConfigError

_PROMPTS = ("prompt", "prompt_file", "prompts")
_BATCH_SIZE = 4


def _add_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("prompt")
    group.add_argument("--prompt", metavar="TEXT", help="the prompt itself")
    group.add_argument(
        "--prompt_file", metavar="FILE", help="a file with the prompt; - is standard input"
    )
    group.add_argument(
        "--prompts",
        type=pathlib.Path,
        metavar="FILE",
        help="JSONL with a prompt per line (prompt, messages with --chat, or input_ids; and name), "
        "which are decoded together",
    )
    group.add_argument(
        "--batch_size",
        type=int,
        metavar="N",
        help=f"with --prompts: as many at a time ({_BATCH_SIZE} if not given); a row that is done "
        "takes the next prompt",
    )
    group.add_argument(
        "--out",
        type=pathlib.Path,
        metavar="FILE",
        help="with --prompts: JSONL of the answers, if not standard output; must not exist",
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
    given = [f"--{name}" for name in _PROMPTS if getattr(args, name) is not None]
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)} exclude each other; give one of them")
    for name in ("batch_size", "out"):
        if args.prompts is None and getattr(args, name) is not None:
            raise ConfigError(f"--{name} is for a file of prompts; give --prompts")
    if args.prompts is not None and args.show != "text":
        raise ConfigError(f"--show={args.show} is for one prompt; leave it out with --prompts")
    if args.batch_size is None:
        args.batch_size = _BATCH_SIZE
    if args.system is not None and not args.chat:
        raise ConfigError("--system is for conversations; give --chat")
    if args.parse_special and args.chat:
        raise ConfigError("--parse_special does not go with --chat, whose template has them")
    decoding.check_models(args)
    decoding.check_method(args)


COMMAND = Command(
    summary="Continues a prompt, and shows the text while it is decoded; or a file of prompts.",
    about="""\
The prompt comes from --prompt, from --prompt_file or from standard input, and is used as it
is, with the newline at its end if it has one. The text goes to standard output, the line of counts
and messages to standard error. Without --pair and --target, the small pair that ships is used.
The prompts of --prompts are decoded together; each answer becomes a line of --out.
""",
    examples=r"""
  rsd generate --prompt 'import os' --show accepted
  rsd generate --prompts prompts.jsonl --out answers.jsonl --batch_size 8
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
