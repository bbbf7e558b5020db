"""Texts to token ids and back, for tokenizers of `transformers` and of `tokenizers`."""

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from tokenizers import Tokenizer

_SHOWN = 60  # characters of a text in a message


def as_text(tokenizer: Tokenizer) -> Tokenizer:
    """Sets a tokenizer to encode whole texts, in which the name of a special token is text.

    Tokenizers of published models may be set to truncate or to pad texts.
    """
    tokenizer.encode_special_tokens = True
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


@contextlib.contextmanager
def _whole_texts(tokenizer: Tokenizer, *, parse_special: bool) -> Iterator[None]:
    """Has the tokenizer encode whole texts, then puts the caller's settings back."""
    special = tokenizer.encode_special_tokens
    cut, padded = tokenizer.truncation, tokenizer.padding
    as_text(tokenizer).encode_special_tokens = not parse_special
    try:
        yield
    finally:
        tokenizer.encode_special_tokens = special
        if cut is not None:
            tokenizer.enable_truncation(**cut)
        if padded is not None:
            tokenizer.enable_padding(**padded)


def encode(
    tokenizer: Any, text: str, *, parse_special: bool = False, add_special: bool = True
) -> list[int]:
    """The token ids of a whole text.

    Args:
      tokenizer: of `transformers` or of `tokenizers`.
      text: the text.
      parse_special: whether the names of special tokens in the text become these tokens; otherwise
        such names are text. A token that the text begins with is not put in front once more.
      add_special: whether the tokenizer adds its special tokens, such as BOS in front.
    """
    ids = _ids(tokenizer, text, parse_special, add_special)
    if parse_special and add_special:
        bare = _ids(tokenizer, text, parse_special, False)
        if bare and ids[:1] == bare[:1] and ids[1 : 1 + len(bare)] == bare:
            return ids[1:]
    return ids


def _ids(tokenizer: Any, text: str, parse_special: bool, add_special: bool) -> list[int]:
    if isinstance(tokenizer, Tokenizer):
        with _whole_texts(tokenizer, parse_special=parse_special):
            return list(tokenizer.encode(text, add_special_tokens=add_special).ids)
    # The option is given in every call: a call without the option resets the attribute.
    encoding = tokenizer(
        text, add_special_tokens=add_special, split_special_tokens=not parse_special, verbose=False
    )
    return list(encoding.input_ids)


def decode(tokenizer: Any, ids: Sequence[int]) -> str:
    """The text of token ids, without special tokens and with its spaces as they are.

    Tokenizers of transformers 4 may be set to remove spaces before punctuation
    (`clean_up_tokenization_spaces`), which changes texts; such a setting is ignored.
    """
    if isinstance(tokenizer, Tokenizer):
        return tokenizer.decode(list(ids), skip_special_tokens=True)
    text: str = tokenizer.decode(
        list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return text


def special_names(tokenizer: Any) -> list[str]:
    """The names of a tokenizer's special tokens, e.g. "<s>"; empty if the tokenizer lists none."""
    if isinstance(tokenizer, Tokenizer):
        added = tokenizer.get_added_tokens_decoder()
    else:
        added = getattr(tokenizer, "added_tokens_decoder", {})
    return [token.content for token in added.values() if token.special]


def warn_of_special_starts(tokenizer: Any, texts: Sequence[str]) -> None:
    """Warns once if texts, whose names of special tokens are text, begin with such a name."""
    names = tuple(special_names(tokenizer))
    found = [text for text in texts if names and text.lstrip().startswith(names)]
    if found:
        name = next(name for name in names if found[0].lstrip().startswith(name))
        warnings.warn(
            f"{len(found)} of {len(texts)} prompts begin with the name of a special token, such as "
            f"{found[0][:_SHOWN]!r}; {name!r} is read as text there. Set parse_special=True to "
            "read names of special tokens as these tokens",
            stacklevel=3,
        )


def first_difference(first: Any, second: Any) -> tuple[int, str, str] | None:
    """The first id that two tokenizers have in common with different tokens.

    Args:
      first, second: of `transformers` or of `tokenizers`: anything with `get_vocab`.

    Returns:
      the id and both tokens; None if the tokenizers agree on all ids that both have.
    """
    ours, theirs = ({i: t for t, i in each.get_vocab().items()} for each in (first, second))
    for token in sorted(ours.keys() & theirs.keys()):
        if ours[token] != theirs[token]:
            return token, ours[token], theirs[token]
    return None
