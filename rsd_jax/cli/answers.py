"""Answers to the prompts of a file: decoded together, and written one per line as JSONL."""

import argparse
import contextlib
import dataclasses
import json
import pathlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TextIO

from rsd_jax.cli.interrupts import keeping
from rsd_jax.cli.progress import Progress
from rsd_jax.cli.speaker import Speaker
from rsd_jax.engine.results import FINISH_EOS, FINISH_LENGTH
from rsd_jax.errors import ConfigError
from rsd_jax.evaluation.prompts import texts, token_ids
from rsd_jax.tasks.jsonl import jsonl_task
from rsd_jax.tasks.prompts import Prompt
from rsd_jax.tasks.templates import CHAT, Template


def answer_file(args: argparse.Namespace) -> None:
    """Decodes the prompts of `args.prompts`; the answers go to `args.out`, or standard output.

    Answers stand in the order of the prompts. If the user stops the command, or an error does,
    those that are finished stay.

    Raises:
      ConfigError: a prompt cannot be used, or the file of answers exists.
      OSError: answers cannot be written.
      NonFiniteLogitsError: see `stream`; the other prompts have their answers.
    """
    prompts = _prompts(args)
    if args.out is not None and args.out.exists():
        raise ConfigError(f"--out={args.out} exists; remove it, or give another file")
    speaker = Speaker.of(args)
    tokens = token_ids(prompts, speaker.pair.tokenizer, parse_special=args.parse_special)
    begin = time.perf_counter()
    finished = speaker.answers(tokens, batch_size=args.batch_size)
    with _opened(args.out) as file:
        writer = _Writer(prompts, speaker, file)
        where = "on standard output" if args.out is None else f"in {args.out}"

        def kept() -> str:
            return f"{writer.written} of {len(prompts)} answers are {where}"

        with keeping(kept), Progress(len(prompts), file=sys.stderr) as progress:
            try:
                for index, answer in finished:
                    writer.add(index, answer)
                    progress(prompts[index].name)
            finally:
                writer.write_all()
    if not args.quiet:
        seconds = time.perf_counter() - begin
        print(
            f"{len(prompts)} answers, {writer.tokens} tokens, {where}; {speaker.name}: "
            f"{seconds:.1f} s with compilation",
            file=sys.stderr,
        )


def _prompts(args: argparse.Namespace) -> list[Prompt]:
    """The prompts of the file, with the system message of the flags where they have none."""
    task = jsonl_task(path=args.prompts, template=CHAT if args.chat else None)
    template = Template(CHAT, chat=True, system=args.system)
    return [
        prompt
        if prompt.messages is None
        else dataclasses.replace(prompt, messages=template.with_system(prompt.messages))
        for prompt in task.test_prompts(None)
    ]


@contextlib.contextmanager
def _opened(path: pathlib.Path | None) -> Iterator[TextIO]:
    """The file, which must not exist yet; or standard output."""
    if path is None:
        yield sys.stdout
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("x", encoding="utf-8") as file:
        yield file


class _Writer:
    """Writes answers in the order of the prompts, each as soon as those before it are written.

    Attributes:
      written: number of answers.
      tokens: their tokens.
    """

    def __init__(self, prompts: Sequence[Prompt], speaker: Speaker, file: TextIO):
        self.written = self.tokens = 0
        self._prompts, self._speaker, self._file = prompts, speaker, file
        self._waiting: dict[int, list[int]] = {}

    def add(self, index: int, answer: list[int]) -> None:
        """Takes the answer to the prompt of this index."""
        self._waiting[index] = answer
        while self.written in self._waiting:
            self._write(self.written)

    def write_all(self) -> None:
        """Writes what waits for answers before it, which will not come."""
        for index in sorted(self._waiting):
            self._write(index)

    def _write(self, index: int) -> None:
        answer, ends = self._waiting.pop(index), self._speaker.pair.eos_ids
        (text,) = texts(self._speaker.pair.tokenizer, [answer], ends)
        line = {
            "name": self._prompts[index].name,
            "answer": text,
            "num_tokens": len(answer),
            "finish_reason": FINISH_EOS if answer[-1] in ends else FINISH_LENGTH,
        }
        print(json.dumps(line, ensure_ascii=False), file=self._file, flush=True)
        self.written += 1
        self.tokens += len(answer)
