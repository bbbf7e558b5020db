"""Dataclasses from decoded JSON, with errors that name the field."""

import dataclasses
import hashlib
import json
import math
import types
import typing
from collections.abc import Collection, Mapping
from typing import Any

from rsd_jax.errors import ConfigError, is_integer


def build(
    kind: Any, values: Mapping[str, Any], prefix: str = "", without: Collection[str] = ()
) -> Any:
    """Makes an object of the dataclass `kind` from decoded JSON.

    Args:
      kind: a dataclass; its fields are Any, str, int, float, bool, list, dict with string keys,
        tuple, dataclasses of the same sort, `X | None`, or `X | list[Y]` with or without None.
      values: the fields by name; fields with a default may be missing.
      prefix: prefix of the fields' names in errors.
      without: fields with defaults that must not be among the values.

    Raises:
      ConfigError: a field is unknown, missing, of another type, negative or not finite, or `kind`
        refuses a value.
    """
    fields = {field.name: field for field in dataclasses.fields(kind) if field.name not in without}
    for name in values:
        if name not in fields:
            raise ConfigError(f"unknown field '{prefix}{name}'")
    for name, field in fields.items():
        required = field.default is field.default_factory is dataclasses.MISSING
        if name not in values and required:
            raise ConfigError(f"field '{prefix}{name}' is missing")
    hints = typing.get_type_hints(kind)
    built = {name: _cast(values[name], hints[name], prefix + name) for name in values}
    try:
        return kind(**built)
    except ConfigError as error:  # from the dataclass's own checks
        raise ConfigError(f"{prefix}{error}") from None


def json_value(text: str | bytes) -> Any:
    """Decodes JSON; raises `ValueError`, whatever the text holds."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def json_object(text: str | bytes, prefix: str = "") -> dict[str, Any]:
    """Decodes a JSON object.

    Raises:
      ConfigError: the text is not a JSON object; the message begins with `prefix`.
    """
    try:
        values = json_value(text)
    except ValueError as error:
        raise ConfigError(f"{prefix}not JSON ({error})") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{prefix}expected an object, got {type(values).__name__}")
    return values


def json_sha256(value: Any, *, sort_keys: bool = False) -> str:
    """SHA-256 of a value as JSON, in hexadecimal."""
    return hashlib.sha256(json.dumps(value, sort_keys=sort_keys).encode()).hexdigest()


def _cast(value: Any, kind: Any, name: str) -> Any:
    """The value as `kind`, or an error that names the field."""
    if kind is Any:
        return value
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        kinds = [each for each in args if each is not type(None)]
        lists = [each for each in kinds if typing.get_origin(each) in (list, tuple)]
        is_list = bool(lists) and isinstance(value, (list, tuple))
        return None if value is None else _cast(value, lists[0] if is_list else kinds[0], name)
    if dataclasses.is_dataclass(kind) and isinstance(value, Mapping):
        return build(kind, value, name + ".")
    if origin is dict and isinstance(value, Mapping) and all(isinstance(k, str) for k in value):
        return {key: _cast(item, args[1], f"{name}.{key}") for key, item in value.items()}
    if origin is list and isinstance(value, (list, tuple)):
        return [_cast(item, args[0], f"{name}[{i}]") for i, item in enumerate(value)]
    if origin is tuple and isinstance(value, (list, tuple)):
        args = args[:1] * len(value) if args[1:] == (...,) else args
    if origin is tuple and isinstance(value, (list, tuple)) and len(value) == len(args):
        pairs = enumerate(zip(value, args, strict=True))
        return tuple(_cast(item, arg, f"{name}[{i}]") for i, (item, arg) in pairs)
    if kind is float and is_integer(value) and _is_finite(value):
        value = float(value)
    if type(value) is kind or (kind is float and is_integer(value)):
        if kind in (int, float) and not (_is_finite(value) and value >= 0):
            raise ConfigError(
                f"field '{name}' is {value}; expected a finite number of at least 0, "
                "or null where nothing was measured"
            )
        return value
    raise ConfigError(f"field '{name}' is {value!r}; expected {_in_words(kind)}")


def _is_finite(value: float) -> bool:
    """Whether a number is finite, and an integer in the range of floats."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _in_words(kind: Any) -> str:
    names = {str: "a string", int: "an integer", float: "a number", bool: "true or false"}
    if kind in names:
        return names[kind]
    args = typing.get_args(kind)
    if typing.get_origin(kind) is tuple and args[1:] != (...,):
        return f"a list of {len(args)}"
    return "a list" if typing.get_origin(kind) in (list, tuple) else "an object"
