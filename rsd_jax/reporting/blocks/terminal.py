"""A completion in a terminal: what was drafted and accepted, and what the target emitted."""

import os
import re
from collections.abc import Sequence
from typing import Any

from rsd_jax.reporting.blocks.completion import Piece

# Of the 256 colours: blue and bold orange, so that colours are not all that tells the two apart.
# Both can be read on black and on white. A line below would make spaces look like underscores.
_ACCEPTED, _EMITTED, _OFF = "\x1b[38;5;32m", "\x1b[1;38;5;166m", "\x1b[0m"
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def wants_color(stream: Any) -> bool:
    """Whether text on a stream gets colours, if nobody says: a terminal, and no NO_COLOR.

    Any value of the environment variable NO_COLOR but "" turns colours off (no-color.org), and so
    does TERM=dumb.
    """
    off = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return not off and bool(getattr(stream, "isatty", lambda: False)())


def harmless(text: str) -> str:
    """The text with control characters other than tab and newline shown as symbols."""

    def symbol(match: re.Match[str]) -> str:
        code = ord(match[0])
        if code < 0x20:
            return chr(0x2400 + code)
        return "\N{SYMBOL FOR DELETE}" if code == 0x7F else "\N{REPLACEMENT CHARACTER}"

    return _CONTROLS.sub(symbol, text)


def _painted(text: str, style: str) -> str:
    """The text in a style that ends before every newline: else it may fill the line."""
    lines = harmless(text).split("\n")
    return "\n".join(f"{style}{line}{_OFF}" if line else "" for line in lines)


def piece_text(piece: Piece, *, color: bool) -> str:
    """One piece for a terminal; control characters of the text become symbols.

    Without colours it is the text alone.
    """
    if not color:
        return harmless(piece.text)
    return _painted(piece.text, _ACCEPTED if piece.accepted else _EMITTED)


def legend_line(pieces: Sequence[Piece], *, color: bool) -> str:
    """One line of counts: tokens, those drafted and accepted, those that the target emitted."""
    sources = [source for piece in pieces for source in piece.sources]
    accepted = sum(source.accepted for source in sources)
    blocks = len({source.block for source in sources})
    first = f"{accepted} drafted and accepted"
    second = f"{len(sources) - accepted} emitted by the target"
    if color:
        first, second = _painted(first, _ACCEPTED), _painted(second, _EMITTED)
    return f"{_counted(len(sources), 'token')} in {_counted(blocks, 'block')}: {first}, {second}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def completion_text(pieces: Sequence[Piece], *, color: bool) -> str:
    """A whole answer for a terminal, and below it an empty line and the legend.

    Args:
      pieces: from `pieces_of`.
      color: whether to colour the text, see `wants_color`.
    """
    text = "".join(piece_text(piece, color=color) for piece in pieces)
    return f"{text}\n\n{legend_line(pieces, color=color)}"
