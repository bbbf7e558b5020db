"""From flags to a method and models; text that appears while it is decoded."""

import argparse
import ast
import dataclasses
import pathlib
import re
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from rsd_jax.cli import choices
from rsd_jax.cli.flags.decoding import DEFAULT_PAIR
from rsd_jax.cli.pairs import load_pair
from rsd_jax.core.skips import check_skips, from_switches
from rsd_jax.engine.generation import stream
from rsd_jax.engine.methods import Method, build_method, method_of_tree
from rsd_jax.engine.request import Sampling
from rsd_jax.errors import ConfigError
from rsd_jax.evaluation.sweep.settings import PairSource
from rsd_jax.models.pairs import SOURCES, LoadedPair
from rsd_jax.reporting.blocks import Piece, legend_line, piece_text, wants_color
from rsd_jax.reporting.blocks.completion import PieceStream
from rsd_jax.reporting.blocks.terminal import harmless
from rsd_jax.search.state import SearchState
from rsd_jax.text.streaming import TextStream

_WAITING = "(compiling, or reading compiled programs)"
_DIGITS = re.compile(r"[01]+")


def method_of(args: argparse.Namespace) -> Method:
    """The method that the flags name; with its own tree if they name none.

    Raises:
      ConfigError: an option is unknown or malformed, see `build_method`; or there is no draft.
    """
    name = args.method or ("rsd_s" if _has_draft(args) else "ar")
    shared = {
        key: getattr(args, key)
        for key in ("verifier", "draft_temperature", "draft_top_k")
        if getattr(args, key) is not None
    }
    tree = args.tree or choices.TREES.get(name.removeprefix("self_"))
    if args.option or tree is None:
        method = build_method(name, **dict(map(_option, args.option)), **shared)
    else:
        method = method_of_tree(name, tree, **shared)
    if method.drafter.needs_draft_model and not _has_draft(args):
        raise ConfigError(
            f"--method={name} needs a draft model; give --draft, or a method that drafts with the "
            "target: swift or self_..."
        )
    return method


def _has_draft(args: argparse.Namespace) -> bool:
    """Whether the flags name a pair with a draft."""
    return bool(args.draft) or not (args.target or args.pair in SOURCES)


def _option(given: str) -> tuple[str, Any]:
    name, equals, value = given.partition("=")
    try:
        if not equals:
            raise ValueError
        return name, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        raise ConfigError(
            f"--option {given}: write NAME=VALUE with a number or numbers, such as length=12 or "
            "counts=1,2,3,5"
        ) from None


def sampling_of(args: argparse.Namespace) -> Sampling:
    """The sampling that the flags ask for, without EOS; errors as `Sampling`."""
    names = ("max_new_tokens", "temperature", "top_k", "top_p", "seed")
    return Sampling(**{name: getattr(args, name) for name in names})


def pair_of(args: argparse.Namespace) -> LoadedPair:
    """Loads the models that the flags name; errors as `load_pair`."""
    source = PairSource(
        shipped="" if args.target else args.pair or DEFAULT_PAIR,
        source=args.source,
        target=args.target,
        draft=args.draft,
        adapter=args.adapter,
        tokenizer=args.tokenizer,
        share_tokens=args.share_tokens,
        dtype=args.dtype,
    )
    return load_pair(source)


def skips_of(given: str | None, pair: LoadedPair) -> np.ndarray | None:
    """The skip set bool[n, 2] that `--skips` names; None without the flag.

    Raises:
      ConfigError: neither a file of a search of this target nor the right number of digits.
    """
    if given is None:
        return None
    layers = pair.target.model.num_layers
    if _DIGITS.fullmatch(given) and not pathlib.Path(given).exists():
        if len(given) != 2 * (layers - 2):
            raise ConfigError(
                f"--skips={given} has {len(given)} digits, but the target has {layers} layers: "
                f"give {2 * (layers - 2)} digits, or the file of a search"
            )
        return check_skips(from_switches(np.asarray([d == "1" for d in given])), layers)
    return SearchState.load(given, pair.target).skips


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
        color = wants_color(sys.stdout) if args.color == "auto" else args.color == "always"
        skips = skips_of(args.skips, pair)
        return cls(pair, method, sampling, skips, args.show == "accepted", color)

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
            self.method, self.pair.target, self.pair.draft, [ids], **self._options(request_id)
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
            **self._options(request_id),
        ):
            answer.add(len(tokens), begin)
            yield shown(growing.add(records))
        yield shown(growing.end())

    def _options(self, request_id: int) -> dict[str, Any]:
        """Keywords of `stream`."""
        values = dataclasses.asdict(self.sampling)
        values["eos_id"] = self.pair.eos_ids
        del values["eos_ids"]
        return values | {"skips": self.skips, "request_ids": [request_id]}

    def counts(self, answer: Answer) -> str:
        """One line about an answer: tokens, times, and what was accepted if that is shown."""
        seconds, first = answer.first
        line = f"{self.method.name} {self.method.tree}".removesuffix(" -")
        line += f": first tokens after {seconds:.1f} s"
        if answer.tokens > first:
            rate = (answer.tokens - first) / (answer.seconds - seconds)
            line += f", then {rate:.1f} tokens/s"
        if self.accepted:
            return f"{legend_line(answer.pieces, color=self.color)}; {line}"
        return f"{answer.tokens} token{'s' * (answer.tokens != 1)}; {line}"
