"""Text that appears while it is decoded, and what is said of it afterwards."""

import argparse
import dataclasses
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from rsd_jax.cli.chosen import check_calibration, method_of, pair_of, sampling_of, skips_of
from rsd_jax.engine.generation import stream
from rsd_jax.engine.methods import Method
from rsd_jax.engine.request import Sampling
from rsd_jax.models.pairs import LoadedPair
from rsd_jax.reporting.blocks import Piece, legend_line, piece_text, wants_color
from rsd_jax.reporting.blocks.completion import PieceStream
from rsd_jax.reporting.blocks.terminal import harmless
from rsd_jax.text.streaming import TextStream

_WAITING = "(compiling, or reading compiled programs)"


@dataclasses.dataclass
class Answer:
    """What was decoded for one prompt so far.

    Attributes:
      text: decoded, as it is.
      tokens: their number.
      pieces: with their sources; empty unless accepted tokens are shown.
      first: seconds to the first tokens, and the number of these tokens.
      seconds: to the last tokens so far.
    """

    text: str = ""
    tokens: int = 0
    pieces: list[Piece] = dataclasses.field(default_factory=list)
    first: tuple[float, int] = (0.0, 0)
    seconds: float = 0.0

    def add(self, tokens: int, begin: float) -> None:
        """Counts tokens that have just come."""
        self.seconds = time.perf_counter() - begin
        self.tokens += tokens
        if self.first[1] == 0:
            self.first = self.seconds, tokens


@dataclasses.dataclass(frozen=True)
class Speaker:
    """Decodes with one pair and one method, and writes the text to standard output.

    Attributes:
      pair, method, sampling, skips: as for `stream`.
      accepted: whether accepted and emitted tokens are shown apart.
      color: whether in colours.
    """

    pair: LoadedPair
    method: Method
    sampling: Sampling
    skips: np.ndarray | None
    accepted: bool
    color: bool

    @classmethod
    def of(cls, args: argparse.Namespace) -> "Speaker":
        """What the flags ask for; checks them before the weights are loaded, which takes long.

        Raises:
          ConfigError, CheckpointError: a flag or a model cannot be used.
        """
        method, sampling = method_of(args), sampling_of(args)
        pair = pair_of(args)
        check_calibration(args, pair)
        color = wants_color(sys.stdout) if args.color == "auto" else args.color == "always"
        skips = skips_of(args.skips, pair)
        return cls(pair, method, sampling, skips, args.show == "accepted", color)

    @property
    def name(self) -> str:
        """Method and tree in words."""
        return f"{self.method.name} {self.method.tree}".removesuffix(" -")

    def answers(
        self, prompts: Sequence[Sequence[int]], *, batch_size: int
    ) -> Iterator[tuple[int, list[int]]]:
        """Decodes prompts together: pairs of a prompt's index and its answer, as they are finished.

        Raises:
          ConfigError: an argument cannot be used; at once, not at the first answer.
          NonFiniteLogitsError: see `stream`.
        """
        models = (self.method, self.pair.target, self.pair.draft)
        pieces = stream(*models, prompts, batch_size=batch_size, **self._options())
        return self._finished(pieces, len(prompts))

    def _finished(
        self, pieces: Iterator[tuple[int, list[int]]], count: int
    ) -> Iterator[tuple[int, list[int]]]:
        answers: list[list[int]] = [[] for _ in range(count)]
        for index, tokens in pieces:
            answer = answers[index]
            answer += tokens
            if answer[-1] in self.pair.eos_ids or len(answer) == self.sampling.max_new_tokens:
                yield index, answer

    def speak(self, ids: Sequence[int], answer: Answer, *, request_id: int = 0) -> None:
        """Decodes one prompt; `answer` receives what is decoded, also of a run that is stopped.

        Raises:
          ConfigError, NonFiniteLogitsError: see `stream`.
        """
        begin = time.perf_counter()
        texts = self._pieces if self.accepted else self._texts
        waiting = sys.stderr.isatty()
        if waiting:
            print(_WAITING, end="\r", file=sys.stderr, flush=True)
        try:
            for shown in texts(ids, answer, request_id, begin):
                if waiting and shown:
                    print(" " * len(_WAITING), end="\r", file=sys.stderr, flush=True)
                    waiting = False
                print(shown, end="", flush=True)
        finally:
            if waiting:
                print(" " * len(_WAITING), end="\r", file=sys.stderr, flush=True)

    def _texts(
        self, ids: Sequence[int], answer: Answer, request_id: int, begin: float
    ) -> Iterator[str]:
        text = TextStream(self.pair.tokenizer)
        terminal = sys.stdout.isatty()
        for _, tokens in stream(
            self.method, self.pair.target, self.pair.draft, [ids], **self._options([request_id])
        ):
            answer.add(len(tokens), begin)
            answer.text += (new := text.add(tokens))
            yield harmless(new) if terminal else new
        answer.text += (new := text.end())
        yield harmless(new) if terminal else new

    def _pieces(
        self, ids: Sequence[int], answer: Answer, request_id: int, begin: float
    ) -> Iterator[str]:
        growing = PieceStream(self.pair.tokenizer)

        def shown(new: list[Piece]) -> str:
            answer.pieces += new
            answer.text += "".join(piece.text for piece in new)
            return "".join(piece_text(piece, color=self.color) for piece in new)

        for _, tokens, records in stream(
            self.method,
            self.pair.target,
            self.pair.draft,
            [ids],
            record_blocks=True,
            **self._options([request_id]),
        ):
            answer.add(len(tokens), begin)
            yield shown(growing.add(records))
        yield shown(growing.end())

    def _options(self, request_ids: Sequence[int] | None = None) -> dict[str, Any]:
        """Keywords of `stream`."""
        values = dataclasses.asdict(self.sampling)
        values["eos_id"] = self.pair.eos_ids
        del values["eos_ids"]
        return values | {"skips": self.skips, "request_ids": request_ids}

    def counts(self, answer: Answer) -> str:
        """One line about an answer: tokens, times, and what was accepted if that is shown."""
        seconds, first = answer.first
        line = f"{self.name}: first tokens after {seconds:.1f} s"
        if answer.tokens > first:
            rate = (answer.tokens - first) / (answer.seconds - seconds)
            line += f", then {rate:.1f} tokens/s"
        if self.accepted:
            return f"{legend_line(answer.pieces, color=self.color)}; {line}"
        return f"{answer.tokens} token{'s' * (answer.tokens != 1)}; {line}"
