"""Files that are complete or not there, whenever the process is killed."""

import contextlib
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any, BinaryIO


@contextlib.contextmanager
def complete_file(path: pathlib.Path) -> Iterator[BinaryIO]:
    """A file to write, under a temporary name until everything is on the disk."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def write_json(path: pathlib.Path, value: Any, *, indent: int | None = 2) -> None:
    """Writes a file of JSON whole or not at all."""
    with complete_file(path) as file:
        file.write((json.dumps(value, indent=indent) + "\n").encode())
