"""Text of tokens that arrive little by little."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rsd_jax.text.encoding import decode

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"  # what a cut character is decoded to


class TextStream:
    """The text of one answer, piece by piece; the pieces together are the text of all its tokens.

    A token may hold a part of a character, and how a token is spelled may depend on the tokens
    before it, so tokens cannot be decoded one by one. A piece ends at the last whole character.
    One text differs: a tokenizer with byte fallback decodes a run of bytes with an invalid one to
    U+FFFD for every byte, but whole characters of that run have been told already.
    """

    def __init__(self, tokenizer: Any):
        """`tokenizer`: of `transformers` or of `tokenizers`."""
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._start = self._read = 0  # the tokens that are decoded again, and those told already
        self._told = 0  # characters

    def add(self, ids: Sequence[int]) -> str:
        """The text that new tokens add; "" if they end within a character."""
        self._ids += ids
        before = decode(self._tokenizer, self._ids[self._start : self._read])
        text = decode(self._tokenizer, self._ids[self._start :])
        if text.endswith(_UNFINISHED) or len(text) <= len(before):
            return ""
        self._start, self._read = self._read, len(self._ids)
        piece = text[len(before) :]
        self._told += len(piece)
        return piece

    def end(self) -> str:
        """The rest of the text; characters that stay unfinished are replaced, as in `decode`."""
        return decode(self._tokenizer, self._ids)[self._told :]


def stream_text(
    tokenizer: Any, pieces: Iterable[tuple[int, Sequence[int]]]
) -> Iterator[tuple[int, str]]:
    """The text of what `rsd_jax.stream` yields, with each row's pieces in order.

    The pieces of a row together are the text of all its tokens, without special tokens.

    Args:
      tokenizer: of `transformers` or of `tokenizers`.
      pieces: pairs of a row and its new tokens.

    Yields:
      pairs of a row and its new text, which is not empty.
    """
    rows: dict[int, TextStream] = {}
    for row, ids in pieces:
        if text := rows.setdefault(row, TextStream(tokenizer)).add(ids):
            yield row, text
    for row, stream in rows.items():
        if text := stream.end():
            yield row, text
