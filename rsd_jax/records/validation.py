"""Makes rows from decoded JSON, with strict checks, and converts rows of schema version 2."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from rsd_jax.errors import ConfigError
from rsd_jax.records.decoding import INTERVALS_OVER
from rsd_jax.records.json_objects import build
from rsd_jax.records.rows import (
    FIELDS,
    KINDS,
    PARTS,
    SCHEMA_VERSION,
    STATUSES,
    Row,
    own_verifier,
)
from rsd_jax.version import __version__

_METHODS_OF_SCHEMA_2 = (
    "ar",
    "sd",
    "spectr",
    "rsd_c",
    "rsd_s",
    "swift",
    "self_sd",
    "self_spectr",
    "self_rsd_c",
    "self_rsd_s",
)
"""All other rows of version 2 are of other engines or of single passes, without a verifier."""


def validate(values: Mapping[str, Any]) -> Row:
    """Makes a row of this schema version from decoded JSON; for version 2 see `from_schema_2`.

    Raises:
      ConfigError: the schema version differs, or a field, which is named, is unknown, missing,
        malformed or of another kind of rows.
    """
    version = values.get("schema_version")
    if version != SCHEMA_VERSION:
        raise ConfigError(
            f"field 'schema_version' is {version!r}, but rsd_jax {__version__} writes version "
            f"{SCHEMA_VERSION} and reads 2 and {SCHEMA_VERSION}; write to a new file, or use the "
            "rsd_jax that wrote this one"
        )
    header = {name: value for name, value in values.items() if name not in FIELDS}
    row: Row = build(Row, header, without=tuple(PARTS))
    for name, choices in (("kind", KINDS), ("status", STATUSES)):
        if getattr(row, name) not in choices:
            raise ConfigError(
                f"field {name!r} is {getattr(row, name)!r}; expected one of {list(choices)}"
            )
    return _checked(dataclasses.replace(row, **_parts(row, values)))


def _parts(row: Row, values: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a row, from the fields in `values`."""
    needed, optional = KINDS[row.kind]
    found: dict[str, dict[str, Any]] = {part: {} for part in needed if row.status == "ok"}
    for name, value in values.items():
        own = [part for part in FIELDS.get(name, ()) if part in (*needed, *optional)]
        if name in FIELDS and not own:
            kinds = [kind for kind, parts in KINDS.items() if {*FIELDS[name]} & {*sum(parts, ())}]
            raise ConfigError(
                f"field {name!r} is of rows of kind {' or '.join(kinds)}; this row is of kind "
                f"{row.kind!r}"
            )
        for part in own:
            found.setdefault(part, {})[name] = value
    return {part: build(PARTS[part], fields) for part, fields in found.items()}


def _checked(row: Row) -> Row:
    over = row.decoding and row.decoding.intervals_over
    if over not in (None, *INTERVALS_OVER):
        raise ConfigError(
            f"field 'intervals_over' is {over!r}; expected one of {list(INTERVALS_OVER)} or null"
        )
    for name, value in row.flat().items():
        if name.endswith("_interval") and value is not None and value[0] > value[1]:
            raise ConfigError(f"field {name!r} is {list(value)}; the lower end comes first")
    return row


def from_schema_2(values: Mapping[str, Any]) -> dict[str, Any]:
    """Converts the mapping of a row of schema version 2 to version 3.

    Version 2 had no `kind` and no `verifier`: every method had its default verifier, and the
    experiments "stream" and "skipping" were kinds. Version 2 wrote null for fields of other kinds,
    and used the names of seconds per block for the phase times of streams, seconds per token.

    Raises:
      ConfigError: the row has a field of version 3 that version 2 did not have.
    """
    renamed = {name: f"token_{name}" for name in ("phase_times", "phase_deviations")}
    for name in ("kind", "verifier", *renamed.values()):
        if name in values:
            raise ConfigError(f"unknown field {name!r}; schema version 2 has no such field")
    experiment, method = values.get("experiment"), values.get("method")
    kind = experiment if experiment in ("stream", "skipping") else "decoding"
    kept = {n: v for n, v in values.items() if v is not None or n not in {*FIELDS, *renamed}}
    if kind == "stream":
        kept = {renamed.get(name, name): value for name, value in kept.items()}
    verifier = own_verifier(method) if method in _METHODS_OF_SCHEMA_2 else None
    return kept | {"schema_version": SCHEMA_VERSION, "kind": kind, "verifier": verifier}
