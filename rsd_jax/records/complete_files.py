"""Writes files that are always complete, even if the process is killed."""

import contextlib
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any, BinaryIO


@contextlib.contextmanager
def complete_file(path: pathlib.Path) -> Iterator[BinaryIO]:
    """A file to write; it has a temporary name until all bytes are on the disk.

    If writing fails, as on a full disk, the old file stays and no partial file is left.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_json(path: pathlib.Path, value: Any, *, indent: int | None = 2) -> None:
    """Writes a JSON file; an interrupted write leaves no partial file."""
    with complete_file(path) as file:
        file.write((json.dumps(value, indent=indent) + "\n").encode())
