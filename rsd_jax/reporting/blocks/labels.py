"""The text of a node, short and with its spaces visible."""

import functools
from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer

from rsd_jax.text.encoding import decode

_SPACE = "\N{OPEN BOX}"
_UNFINISHED = "\N{REPLACEMENT CHARACTER}"
_LONGEST = 12  # characters of a label
_NAMED = {" ": _SPACE, "\n": "\\n", "\t": "\\t", "\r": "\\r", "\\": "\\\\"}


def token_text(tokenizer: Any, before: Sequence[int], token: int) -> str:
    """The text that a token adds after others; the tokenizer's name of a token without text.

    Args:
      tokenizer: of `transformers` or of `tokenizers`; None for the id as text.
      before: tokens before it; without them, some tokenizers drop a leading space.
      token: the id.
    """
    if tokenizer is None:
        return str(token)
    start = decode(tokenizer, before)
    text = decode(tokenizer, [*before, token])
    if text.startswith(start) and len(text) > len(start) and _UNFINISHED not in text[len(start) :]:
        return text[len(start) :]
    if isinstance(tokenizer, Tokenizer):
        name = tokenizer.id_to_token(token)
    else:
        name = tokenizer.convert_ids_to_tokens(token)
    return str(token) if name is None else str(name)


@functools.cache
def _drawable() -> frozenset[int]:
    """The characters of matplotlib's own font."""
    from matplotlib import font_manager

    path = font_manager.findfont("DejaVu Sans")
    return frozenset(font_manager.get_font(path).get_charmap())


def label(text: str) -> str:
    """A text as a label: spaces visible, other white space and unknown letters escaped, cut."""
    shown = [_NAMED.get(letter) or _letter(letter) for letter in text]
    if sum(map(len, shown)) <= _LONGEST:
        return "".join(shown)
    kept, room = [], _LONGEST - 1
    for piece in shown:
        room -= len(piece)
        if room < 0:
            break
        kept.append(piece)
    return "".join(kept) + "\N{HORIZONTAL ELLIPSIS}"


def _letter(letter: str) -> str:
    if letter.isprintable() and ord(letter) in _drawable():
        return letter
    code = ord(letter)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:x}"
