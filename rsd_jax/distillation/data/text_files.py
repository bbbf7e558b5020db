"""A user's own text: documents of text and JSONL files, and their tokens.

A file `.txt` is one document. A file `.jsonl` has one object per line, with a document in one of
its fields. Both may be compressed (`.gz`). Text is UTF-8.
"""

import codecs
import glob
import gzip
import os
import pathlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tokenizers import Tokenizer

from rsd_jax.distillation.data.corpus import HELD_OUT_PER_MILLE, is_held_out
from rsd_jax.distillation.data.token_files import SPLITS, write_documents
from rsd_jax.errors import ConfigError, is_integer
from rsd_jax.records.json_objects import json_object

_KINDS = (".txt", ".jsonl")
_ENDINGS = f"{' or '.join(_KINDS)}, with or without .gz"


def read_documents(patterns: Sequence[str], *, field: str = "text") -> Iterator[tuple[str, str]]:
    """Name and text of every document, file after file; one document at a time is in memory.

    The name is the path below the pattern's last folder without a wildcard, without `.gz`; for a
    line of JSONL `:` and the line number follow. The name thus does not depend on where the files
    are. Documents of only white space are left out.

    Args:
      patterns: files, folders (with all that is below them) or patterns as of `glob`, in which
        `**` stands for any folders. A pattern's files come in the order of their names.
      field: key of the text in the JSON objects.

    Raises:
      ConfigError: a pattern has no file, a file is of another kind, or two files have one name.
        While iterating: a file or line, which is named, cannot be read or lacks the field.
    """
    texts = (
        (name, line if where is None else text_field(json_object(line, f"{where}: "), field, where))
        for name, line, where in read_entries(patterns)
    )
    return ((name, text) for name, text in texts if text.strip())


def read_entries(patterns: Sequence[str]) -> Iterator[tuple[str, str, str | None]]:
    """Name, content and place of every text file and of every line of JSONL.

    The place, "file, line number", is for error messages; it is None for a text file. Lines of only
    white space are left out. Arguments, names and errors as in `read_documents`.
    """
    files = _files(patterns)
    return (entry for short, path in files.items() for entry in _entries(short, path))


def split_texts(
    patterns: Sequence[str],
    split: str,
    *,
    held_out_per_mille: int = HELD_OUT_PER_MILLE,
    field: str = "text",
) -> Iterator[str]:
    """The documents of one split of a user's files; arguments and errors as in `write_text`."""
    for name, text in read_documents(patterns, field=field):
        if is_held_out(name, held_out_per_mille) == (split == "heldout"):
            yield text


def write_text(
    patterns: Sequence[str],
    tokenizer: Tokenizer,
    directory: pathlib.Path,
    *,
    bos_id: int | None,
    eos_id: int,
    held_out_per_mille: int = HELD_OUT_PER_MILLE,
    field: str = "text",
) -> dict:
    """Writes the tokens of a user's files, for `token_files.open_tokens` and `mixture.open_source`.

    The name of a document decides its split, so that the document stays there when files are
    added. A document that occurs twice in the files can be in both splits.

    Args:
      patterns, field: see `read_documents`.
      tokenizer, directory, bos_id, eos_id: see `token_files.write_documents`.
      held_out_per_mille: documents in a thousand that are kept from training.

    Returns:
      What `write_documents` returns.

    Raises:
      ConfigError: see `read_documents` and `write_documents`; or a split has no documents.
    """
    if not (is_integer(held_out_per_mille) and 0 < held_out_per_mille < 1000):
        raise ConfigError(
            f"held_out_per_mille={held_out_per_mille!r} must be an integer from 1 to 999"
        )

    def texts(split: str) -> Iterator[str]:
        return split_texts(patterns, split, field=field, held_out_per_mille=held_out_per_mille)

    # An empty split is found here, not after hours of encoding the other split.
    for split in SPLITS:
        if next(texts(split), None) is None:
            count = sum(1 for _ in read_documents(patterns, field=field))
            raise ConfigError(
                f"none of the {count} documents of {patterns} is in the split {split!r} "
                f"at held_out_per_mille={held_out_per_mille}; change it, or give more documents: "
                "a file .txt is one document, a file .jsonl has one document per line"
            )
    return write_documents(
        {split: texts(split) for split in SPLITS},
        tokenizer,
        directory,
        unit="documents",
        bos_id=bos_id,
        eos_id=eos_id,
    )


def _files(patterns: Sequence[str]) -> dict[str, pathlib.Path]:
    """Paths by name, see `read_documents`."""
    if isinstance(patterns, str):
        patterns = (patterns,)
    if not patterns:
        raise ConfigError("no files were named; give at least one file, folder or pattern")
    files: dict[str, pathlib.Path] = {}
    for pattern in map(os.fspath, patterns):
        root, paths = _matches(pattern)
        names = [path.relative_to(root).as_posix().removesuffix(".gz") for path in paths]
        for name, path in sorted(zip(names, paths, strict=True)):
            if pathlib.Path(name).suffix not in _KINDS:
                raise ConfigError(f"{path} does not end in {_ENDINGS}; give a narrower pattern")
            known = files.setdefault(name, path)
            if known.resolve() != path.resolve():
                raise ConfigError(
                    f"{known} and {path} would both be called {name!r}; give one pattern for "
                    "both, with a wildcard where they differ, or leave one out"
                )
    return files


def _matches(pattern: str) -> tuple[pathlib.Path, list[pathlib.Path]]:
    """The last folder of a pattern without a wildcard, and the files that match it."""
    root = pathlib.Path(pattern)
    if root.is_file():
        return root.parent, [root]
    if root.is_dir():
        paths = [
            path
            for path in _glob(os.path.join(glob.escape(pattern), "**", "*"))
            if path.name.removesuffix(".gz").endswith(_KINDS)
        ]
        if not paths:
            raise ConfigError(f"the folder {pattern} holds no file that ends in {_ENDINGS}")
        return root, paths
    paths = _glob(pattern)
    if not paths:
        raise ConfigError(f"no file matches {pattern!r}")
    while glob.has_magic(str(root)):
        root = root.parent
    return root, paths


def _glob(pattern: str) -> list[pathlib.Path]:
    paths = map(pathlib.Path, glob.glob(pattern, recursive=True))
    return [path for path in paths if path.is_file()]


def _entries(name: str, path: pathlib.Path) -> Iterator[tuple[str, str, str | None]]:
    if name.endswith(".txt"):
        yield name, _decode(b"".join(_lines(path)), path, 1), None
        return
    for number, line in enumerate(_lines(path), start=1):
        if text := _decode(line, path, number).strip():
            yield f"{name}:{number}", text, f"{path}, line {number}"


def _lines(path: pathlib.Path) -> Iterator[bytes]:
    """The lines of a file, which may be compressed."""
    count = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for line in file:
                # Some programs write a byte order mark at the start of a file.
                yield line if count else line.removeprefix(codecs.BOM_UTF8)
                count += 1
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"{path} cannot be read beyond line {count} ({error})") from None


def _decode(data: bytes, path: pathlib.Path, line: int) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line += data.count(b"\n", 0, error.start)
        raise ConfigError(f"{path}, line {line}: not UTF-8 ({error.reason})") from None


def text_field(values: Mapping[str, Any], field: str, where: str) -> str:
    """The text in a field of an object, which may be blank.

    Raises:
      ConfigError: the field is missing, not a string or not UTF-8; begins with `where`.
    """
    if field not in values:
        raise ConfigError(f"{where}: no field {field!r}; the fields are {sorted(values)[:9]}")
    text = values[field]
    if not isinstance(text, str):
        raise ConfigError(f"{where}: the field {field!r} is {type(text).__name__}, not a string")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{where}: the field {field!r} holds a lone surrogate") from None
    return text
