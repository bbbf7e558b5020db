"""`rsd generate`: continues a prompt, or each prompt of a file."""

import argparse
import pathlib
import sys

from rsd_jax.cli.answers import answer_file
from rsd_jax.cli.interrupts import keeping
from rsd_jax.cli.speaker import Answer, Speaker
from rsd_jax.errors import ConfigError
from rsd_jax.tasks.jsonl import check_text
from rsd_jax.text.prompts import encode_prompts, user_messages


def run(args: argparse.Namespace) -> None:
    """Shows the text while it is decoded, and a line of counts after it.

    The prompts of a file are decoded together instead, and their answers written when finished.
    """
    if args.prompts is not None:
        return answer_file(args)
    text = prompt_of(args)
    speaker = Speaker.of(args)
    prompt = user_messages(text.strip(), args.system) if args.chat else text
    (ids,) = encode_prompts(speaker.pair.tokenizer, [prompt], parse_special=args.parse_special)
    answer = Answer()

    def kept() -> str:
        if answer.tokens == 0:
            return "nothing was decoded yet"
        print(flush=True)  # the message gets a line of its own
        return f"{answer.tokens} tokens were decoded, their text stands above"

    with keeping(kept):
        speaker.speak(ids, answer)
    if not answer.text.endswith("\n"):
        print(flush=True)
    if not args.quiet:
        print(speaker.counts(answer), file=sys.stderr)


def prompt_of(args: argparse.Namespace) -> str:
    """The prompt that the flags or standard input give.

    Raises:
      ConfigError: there is none, it cannot be read, or it is blank.
    """
    if args.prompt is not None:
        return check_text(args.prompt, "--prompt")
    if args.prompt_file not in (None, "-"):
        name = f"--prompt_file={args.prompt_file}"
        return check_text(_decoded(_bytes(args.prompt_file), name), name)
    data = b"" if args.prompt_file is None and sys.stdin.isatty() else sys.stdin.buffer.read()
    if not data.strip():
        raise ConfigError(
            "there is no prompt; give --prompt TEXT or --prompt_file FILE, or pipe a text into it"
        )
    return check_text(_decoded(data, "standard input"), "standard input")


def _bytes(path: str) -> bytes:
    try:
        return pathlib.Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"--prompt_file={path} cannot be read: {error.strerror}") from None


def _decoded(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name} is not UTF-8 ({error.reason} at byte {error.start})") from None
