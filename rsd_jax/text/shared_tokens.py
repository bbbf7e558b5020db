"""Which tokens two tokenizers have in common."""

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from rsd_jax.errors import ConfigError

_SPACE = "\u2581"
"""How SentencePiece writes a space."""

_BYTE = re.compile("^<0x([0-9A-F]{2})>$")
"""How SentencePiece spells a byte of a character that is no token."""

_ROLES = ("bos_token_id", "eos_token_id")


@dataclasses.dataclass(frozen=True)
class _Texts:
    """The tokens of a tokenizer: what they stand for, by id.

    Attributes:
      ordinary: the bytes that a token is decoded to.
      special: the name of a token that stands for no text, such as "<s>".
    """

    ordinary: dict[int, bytes]
    special: dict[int, str]


def draft_ids(target: Any, draft: Any, target_size: int, draft_size: int) -> np.ndarray:
    """The draft's id of each of the target's tokens.

    Tokens are the same if they are decoded to the same bytes, however they are spelled (`Ġthe` of
    byte-level BPE, `▁the` of SentencePiece); if they are special tokens of one name; or if both
    begin, or both end, a text.

    Args:
      target, draft: fast tokenizers of `transformers`.
      target_size, draft_size: V of the models; tokens with larger ids are left out.

    Returns:
      i32[target_size], -1 for a token that the draft lacks.

    Raises:
      ConfigError: a tokenizer is of a kind whose tokens cannot be compared, or no token is shared.
    """
    ours, theirs = _texts(target), _texts(draft)
    ids = np.full(target_size, -1, np.int32)
    for mine, other in ((ours.ordinary, theirs.ordinary), (ours.special, theirs.special)):
        found = {text: token for token, text in other.items() if token < draft_size}
        for token, text in mine.items():
            if token < target_size:
                ids[token] = found.get(text, -1)
    for role in _ROLES:
        token, same = getattr(target, role), getattr(draft, role)
        if token is not None and same is not None and token < target_size and same < draft_size:
            ids[token] = same
    if not (ids >= 0).any():
        raise ConfigError("the tokenizers of target and draft have no token in common")
    return ids


def _texts(tokenizer: Any) -> _Texts:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ConfigError(
            f"the tokens of a {type(tokenizer).__name__} cannot be compared with another "
            "tokenizer's; use a fast tokenizer, which reads tokenizer.json"
        )
    state = json.loads(backend.to_str())
    added = {token["id"]: token for token in state["added_tokens"]}
    vocabulary = {t: name for name, t in tokenizer.get_vocab().items() if t not in added}
    kinds = set(_kinds([state["pre_tokenizer"], state["decoder"]]))
    if "ByteLevel" in kinds:
        ordinary = _of_byte_level(vocabulary)
    elif kinds & {"Metaspace", "ByteFallback"}:
        ordinary = _of_sentencepiece(vocabulary)
    else:
        raise ConfigError(
            "tokens of byte-level BPE and of SentencePiece can be compared; a tokenizer is of "
            f"another kind, with {sorted(kinds)}"
        )
    plain = {t: token["content"].encode() for t, token in added.items() if not token["special"]}
    special = {t: token["content"] for t, token in added.items() if token["special"]}
    return _Texts(ordinary | plain, special)


def _kinds(part: Any) -> Iterator[str]:
    """The types of a part of tokenizer.json and of all parts inside."""
    if isinstance(part, dict):
        yield from (part["type"],) if "type" in part else ()
        part = list(part.values())
    if isinstance(part, list):
        for inner in part:
            yield from _kinds(inner)


def _of_byte_level(vocabulary: Mapping[int, str]) -> dict[int, bytes]:
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    byte = {character: code for code, character in bytes_to_unicode().items()}
    # Placeholders, which no text is encoded to, may hold characters outside the table.
    known = {t: name for t, name in vocabulary.items() if all(c in byte for c in name)}
    return {t: bytes(byte[c] for c in name) for t, name in known.items()}


def _of_sentencepiece(vocabulary: Mapping[int, str]) -> dict[int, bytes]:
    """A byte such as `<0x41>` that is also a token `A` is left out: no text is encoded to it."""
    texts = {
        t: n.replace(_SPACE, " ").encode() for t, n in vocabulary.items() if not _BYTE.match(n)
    }
    spelled = set(texts.values())
    found = {t: _BYTE.match(name) for t, name in vocabulary.items()}
    codes = {t: bytes([int(match[1], 16)]) for t, match in found.items() if match}
    return texts | {t: code for t, code in codes.items() if code not in spelled}
