"""Files of searches: JSON with a checksum."""

import pathlib
from typing import Any

from rsd_jax.errors import ConfigError
from rsd_jax.records.complete_files import write_json
from rsd_jax.records.json_objects import json_object, json_sha256

_FORMAT = "rsd_jax skip-set search"
_VERSION = 1


def _checksum(fields: dict[str, Any]) -> str:
    return json_sha256(fields, sort_keys=True)


def write(path: str | pathlib.Path, fields: dict[str, Any]) -> None:
    """Writes fields that JSON can hold; if the write is interrupted, the old file stays."""
    path = pathlib.Path(path)
    content = {
        "format": _FORMAT,
        "version": _VERSION,
        "checksum": _checksum(fields),
        "search": fields,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, content, indent=None)


def read(path: str | pathlib.Path) -> dict[str, Any]:
    """The fields of a file.

    Raises:
      ConfigError: the file is missing, of another version, or not as `write` wrote it.
    """
    try:
        content = json_object(pathlib.Path(path).read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot read the search {path}: {error.strerror}") from None
    except ConfigError as error:
        raise corrupt(path, error) from None
    if content.get("format") != _FORMAT:
        raise ConfigError(f"{path} is not a file of `SearchState.save`")
    if content.get("version") != _VERSION:
        raise ConfigError(
            f"the search {path} is of version {content.get('version')!r}; this package reads "
            f"version {_VERSION}"
        )
    fields = content.get("search")
    if not isinstance(fields, dict) or content.get("checksum") != _checksum(fields):
        raise corrupt(path, "its checksum differs")
    return fields


def corrupt(path: str | pathlib.Path, reason: object) -> ConfigError:
    """The error for a file that is not as it was written."""
    return ConfigError(
        f"the search {path} is corrupt ({reason}); restore it, or start a new search with "
        "SearchState.new"
    )
