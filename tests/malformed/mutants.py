"""Malformed versions of a valid file, drawn from a seed: JSON, JSON lines, binary files."""

import codecs
import copy
import functools
import json
import math
import random
from collections.abc import Callable, Iterator
from typing import Any

Mutant = tuple[str, bytes]
"""What was done to a file, and its bytes afterwards."""
Mutants = Callable[[bytes, random.Random], list[Mutant]]

ODD_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    0.5,
    -0.0,
    10**7,
    2**31,
    2**63,
    10**30,
    -(10**30),
    10**400,
    1e308,
    1e-320,
    math.nan,
    math.inf,
    -math.inf,
    "",
    " ",
    "x",
    "\0",
    "\ud800",
    "..",
    "/",
    "x" * 300,
    [],
    [[]],
    [None],
    [1, "x", None],
    {},
    {"x": 1},
    {"": {}},
)
_NESTING = 100_000  # deeper than any parser recurses
_TRUNCATIONS, _FLIPS = 12, 24


def json_file(count: int) -> Mutants:
    """Mutants of a file with one JSON value: about `count` of its values, and those of any text."""

    def made(data: bytes, rng: random.Random) -> list[Mutant]:
        found = list(_of_value(json.loads(data)))
        return _drawn(found, count, rng) + text_mutants(data, rng)

    return made


def json_lines(count: int) -> Mutants:
    """Mutants of the first line of a file with one JSON value per line, and of its bytes."""

    def made(data: bytes, rng: random.Random) -> list[Mutant]:
        first, _, others = data.partition(b"\n")
        found = list(_of_value(json.loads(first)))
        lines = [
            (what, line + b"\n" + others)
            for what, line in _drawn(found, count, rng) + text_mutants(first, rng)
        ]
        return lines + text_mutants(data, rng)

    return made


def binary_file(count: int, header: Callable[[bytes], int] = len) -> Mutants:
    """Mutants of the bytes of a file, `count` of them within its header, and truncated anywhere.

    Args:
      count: of mutants in the header.
      header: the number of bytes that are not plain values, from the file's bytes.
    """

    def made(data: bytes, rng: random.Random) -> list[Mutant]:
        end = header(data)
        kinds = (_flipped, _word_of, _without, _with_more)
        found = [kinds[i % len(kinds)](data, end, rng) for i in range(count)]
        return [*found, *_truncated(data, rng), ("empty", b""), ("zeros", bytes(len(data)))]

    return made


def value_mutants(value: Any, count: int, rng: random.Random) -> list[tuple[str, Any]]:
    """About `count` mutants of a nested value: other values, keys renamed, absent."""
    return _drawn(list(_other_values(value)), count, rng)


def text_mutants(data: bytes, rng: random.Random) -> list[Mutant]:
    """Mutants of a text in UTF-8: cut, flipped, in other encodings, nested, with zeros."""
    found = [
        ("empty", b""),
        ("white space", b" \n\t "),
        ("zeros", bytes(len(data))),
        ("byte order mark", codecs.BOM_UTF8 + data),
        ("UTF-16", data.decode().encode("utf-16")),
        ("UTF-32 without a mark", data.decode().encode("utf-32-le")),
        ("not UTF-8", data.replace(b'"', b'"\xff\xfe', 1)),
        ("overlong UTF-8", data.replace(b'"', b'"\xc0\x80', 1)),
        ("twice", data + data),
        ("rest of another file", data + b"]}"),
        ("deep list", b"[" * _NESTING),
        ("deep object", b'{"a":' * _NESTING),
        ("deep value", _with_key(data, b"[" * _NESTING + b"]" * _NESTING)),
        ("long number", _with_key(data, b"9" * 5000)),
        ("long exponent", _with_key(data, b"1e999999999")),
        ("number", b"1"),
        ("text", b'"x"'),
        ("null", b"null"),
        ("list", b"[" + data.strip() + b"]"),
        ("git-lfs pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
        ("HTML", b"<!doctype html><html><body>404</body></html>"),
    ]
    found += [_flipped(data, len(data), rng) for _ in range(_FLIPS)]
    return found + list(_truncated(data, rng))


def _with_key(data: bytes, value: bytes) -> bytes:
    """An object with one more key."""
    return data.strip()[:-1] + b', "more": ' + value + b"}"


def _of_value(value: Any) -> Iterator[Mutant]:
    for what, other in _other_values(value):
        yield what, json.dumps(other).encode()
    text = json.dumps(value)
    if isinstance(value, dict):
        for key, own in value.items():
            twice = f"{json.dumps(key)}: {json.dumps(own)}, {json.dumps(key)}: null"
            yield f"{key} twice", (text[:-1] + ", " + twice + "}").encode()


def _other_values(value: Any) -> Iterator[tuple[str, Any]]:
    for path in _paths(value):
        where = ".".join(map(str, path))
        for odd in ODD_VALUES:
            set_odd = functools.partial(_set, value=odd)
            yield f"{where}={odd!r:.20}", _changed(value, path, set_odd)
        yield f"without {where}", _changed(value, path, _drop)
        if isinstance(path[-1], str):
            for name in (path[-1].upper(), path[-1] + " ", "", "\ud800"):
                renamed = functools.partial(_rename, name=name)
                yield f"{where} as {name!r}", _changed(value, path, renamed)


def _drop(at: Any, key: Any) -> None:
    del at[key]


def _set(at: Any, key: Any, value: Any) -> None:
    at[key] = copy.deepcopy(value)


def _rename(at: Any, key: str, name: str) -> None:
    at[name] = at.pop(key)


def _changed(value: Any, path: tuple[Any, ...], change: Callable[[Any, Any], Any]) -> Any:
    made = copy.deepcopy(value)
    at = made
    for key in path[:-1]:
        at = at[key]
    change(at, path[-1])
    return made


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to the values of objects, and to the first and last items of lists."""
    if path:
        yield path
    keys: list[Any] = []
    if isinstance(value, dict):
        keys = list(value)
    elif isinstance(value, list):
        keys = sorted({0, len(value) - 1}) if value else []
    for key in keys:
        yield from _paths(value[key], (*path, key))


def _drawn(found: list, count: int, rng: random.Random) -> list:
    return found if len(found) <= count else rng.sample(found, count)


def _truncated(data: bytes, rng: random.Random) -> Iterator[Mutant]:
    ends = {1, 8, len(data) - 1, *(rng.randrange(len(data)) for _ in range(_TRUNCATIONS - 3))}
    for end in sorted(ends):
        yield f"cut at {end}", data[:end]


def _flipped(data: bytes, end: int, rng: random.Random) -> Mutant:
    at, bit = rng.randrange(end), 1 << rng.randrange(8)
    return f"bit {bit} of byte {at}", data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :]


def _word_of(data: bytes, end: int, rng: random.Random) -> Mutant:
    width = rng.choice((4, 8))
    at = rng.randrange(max(1, end - width))
    word = rng.choice((0, 1, 2**31, 2**63, 2**64 - 1, 2**40, 10**6)) % 256**width
    changed = data[:at] + word.to_bytes(width, "little") + data[at + width :]
    return f"{word} in {width} bytes at {at}", changed


def _without(data: bytes, end: int, rng: random.Random) -> Mutant:
    at, width = rng.randrange(end), rng.choice((1, 2, 8))
    return f"{width} bytes removed at {at}", data[:at] + data[at + width :]


def _with_more(data: bytes, end: int, rng: random.Random) -> Mutant:
    at, more = rng.randrange(end), rng.randbytes(rng.choice((1, 2, 8)))
    return f"{more!r} put in at {at}", data[:at] + more + data[at:]
