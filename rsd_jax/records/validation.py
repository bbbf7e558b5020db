"""From decoded JSON to rows, strictly, and from the schema version before to this one."""

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
"""Other rows of version 2 are of other engines and of single passes, which have no verifier."""


def validate(values: Mapping[str, Any]) -> Row:
    """Makes a row of decoded JSON, of this schema version; see `from_schema_2` for the one before.

    Raises:
      ConfigError: another schema version, or a field that is unknown, missing, malformed or of
        another kind of rows; the field is named.
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
    """The parts of a row, from the fields that are there."""
    needed, optional = KINDS[row.kind]
    found: dict[str, dict[str, Any]] = {part: {} for part in needed if row.status == "ok"}
    for name, value in values.items():
        own = [part for part in FIELDS.get(name, ()) if part in (*needed, *optional)]
        if name in FIELDS and not own:
            kinds = [kind for kind, parts in KINDS.items() if {*FIELDS[name]} & {*sum(parts, ())}]
            raise ConfigError(
                f"field {name!r} is of rows of kind {' or '.join(kinds)}; this one is of kind "
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
    """The mapping of a row of schema version 2 as one of version 3.

    Version 2 had no `kind` and no `verifier`: every method had its own verifier, and the
    experiments "stream" and "skipping" were kinds. It wrote null for what other kinds measure, and
    had the phase times of streams, seconds per token, under the name of seconds per block.

    Raises:
      ConfigError: a field of version 3 that version 2 did not have.
    """
    renamed = {name: f"token_{name}" for name in ("phase_times", "phase_deviations")}
    for name in ("kind", "verifier", *renamed.values()):
        if name in values:
            raise ConfigError(f"unknown field {name!r}; schema version 2 has none")
    experiment, method = values.get("experiment"), values.get("method")
    kind = experiment if experiment in ("stream", "skipping") else "decoding"
    kept = {n: v for n, v in values.items() if v is not None or n not in {*FIELDS, *renamed}}
    if kind == "stream":
        kept = {renamed.get(name, name): value for name, value in kept.items()}
    verifier = own_verifier(method) if method in _METHODS_OF_SCHEMA_2 else None
    return kept | {"schema_version": SCHEMA_VERSION, "kind": kind, "verifier": verifier}
