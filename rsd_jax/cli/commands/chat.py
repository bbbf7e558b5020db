"""`rsd chat`: a conversation in the terminal."""

import argparse
import contextlib
import importlib
import sys

from rsd_jax.cli.speaker import Answer, Speaker
from rsd_jax.errors import ConfigError
from rsd_jax.text.chat import ASSISTANT, SYSTEM, USER, Message, check_can_chat
from rsd_jax.text.prompts import encode_prompts

_NEW = "/new"
_ASK = "> "


def run(args: argparse.Namespace) -> None:
    """Answers message after message, until standard input ends."""
    speaker = Speaker.of(args)
    check_can_chat(speaker.pair.tokenizer)
    terminal = sys.stdin.isatty()
    if terminal:
        with contextlib.suppress(ImportError):  # Windows has none
            importlib.import_module("readline")  # gives `input` a history and a line editor
        print(f"Ctrl-D ends the conversation, {_NEW} begins a new one.", file=sys.stderr)
    opening = [] if args.system is None else [Message(SYSTEM, args.system)]
    history, turn = list(opening), 0
    while (text := _message(terminal)) is not None:
        if text == _NEW:
            history = list(opening)
        elif text:
            history = _answered(speaker, history, text, turn, quiet=args.quiet)
            turn += 1


def _message(terminal: bool) -> str | None:
    """The next message, "" for an empty line; None at the end of the conversation."""
    try:
        return input(_ASK if terminal else "").strip()
    except EOFError:
        if terminal:
            print()
        return None
    except KeyboardInterrupt:
        print(file=sys.stderr)  # the message gets a line of its own
        raise


def _answered(
    speaker: Speaker, history: list[Message], text: str, turn: int, *, quiet: bool
) -> list[Message]:
    """Answers a message; the conversation with message and answer.

    Without the message if it cannot be answered, such as in a conversation that is too long.
    """
    asked, answer = [*history, Message(USER, text)], Answer()
    try:
        (ids,) = encode_prompts(speaker.pair.tokenizer, [asked])
        speaker.speak(ids, answer, request_id=turn)
    except ConfigError as error:
        print(f"error: {error}; or begin anew with {_NEW}", file=sys.stderr)
        return history
    except KeyboardInterrupt:
        print("\n(stopped; the answer so far is kept)", end="", file=sys.stderr, flush=True)
    print(flush=True)
    if not quiet and answer.tokens:
        print(speaker.counts(answer), file=sys.stderr)
    return [*asked, Message(ASSISTANT, answer.text.strip())]
