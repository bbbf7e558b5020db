"""Files of result rows, one JSON object per line; rows are validated when written and when read.

All measurements are written by `append_row`, in the current schema version. All plots and tables
read with `read_rows`, which also accepts rows of version 2.
"""

import json
import os
import pathlib
import warnings

from rsd_jax.errors import ConfigError
from rsd_jax.records.json_objects import json_object
from rsd_jax.records.rows import Row
from rsd_jax.records.validation import from_schema_2, validate


def to_json(row: Row) -> str:
    """One line of strict JSON, validated; no line break."""
    values = row.flat()
    validate(values)
    return json.dumps(values, ensure_ascii=False, allow_nan=False)


def append_row(path: str | os.PathLike[str], row: Row) -> None:
    """Appends a row and waits until it is on the disk; creates the file and its folder if needed.

    One process at a time may append to a file. A line is written in one call, so a killed run
    leaves whole rows and at most one fragment at the end. The next append removes a fragment and
    warns.

    Raises:
      ConfigError: the row is malformed; the file is not changed.
    """
    line = (to_json(row) + "\n").encode()
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab+") as file:
        file.seek(0)
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            if _is_row(content[whole:]):
                line = b"\n" + line
            else:
                warnings.warn(
                    f"{path}: the last line was cut off while it was written; it is removed and "
                    "its cell has to be measured again",
                    stacklevel=2,
                )
                file.truncate(whole)
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def check_writable(path: str | os.PathLike[str]) -> None:
    """Makes the folder of a file, and checks that the file can be written.

    Raises:
      OSError: it cannot; a file that did not exist still does not.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    path.open("ab").close()
    if is_new:
        path.unlink()


def read_rows(path: str | os.PathLike[str]) -> list[Row]:
    """Reads and validates all rows of a file.

    A fragment at the end, left by a killed run, is ignored with a warning.

    Raises:
      ConfigError: the file is missing or cannot be read, or a line is not a row; names file, line
        number and field.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise ConfigError(f"there is no results file {path}")
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror})") from None
    if lines[-1] and not _is_row(lines[-1]):
        warnings.warn(
            f"{path}, line {len(lines)}: cut off while it was written; ignored", stacklevel=2
        )
        lines.pop()
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            rows.append(_parse(line))
        except ConfigError as error:
            raise ConfigError(f"{path}, line {number}: {error}") from None
    return rows


def known_rows(path: str | os.PathLike[str]) -> list[Row]:
    """The rows of a file; none if the file does not exist yet. Errors as `read_rows`."""
    return read_rows(path) if pathlib.Path(path).exists() else []


def _parse(line: bytes) -> Row:
    values = json_object(line)
    return validate(from_schema_2(values) if values.get("schema_version") == 2 else values)


def _is_row(line: bytes) -> bool:
    try:
        _parse(line)
    except ConfigError:
        return False
    return True
