"""Values of the keys of config.json, with a check of their types."""

from collections.abc import Mapping
from typing import Any

from rsd_jax.errors import LARGEST_INTEGER, ConfigError, is_integer

EOS_KEY = "eos_token_id"
_LARGEST_FLOAT = 3.4e38  # float32, in which models compute


def number(raw: Mapping[str, Any], key: str, kind: type, default: Any = None) -> Any:
    """raw[key] as an int or float; if absent or null, `default`, or an error without a default."""
    value = raw.get(key)
    if value is None:
        if default is None:
            raise ConfigError(f"config.json lacks the key {key!r}")
        return default
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not (whole or (kind is float and isinstance(value, float))):
        expected = "a whole number" if kind is int else "a number"
        raise ConfigError(f"config.json sets {key}={value!r}; expected {expected}")
    largest = LARGEST_INTEGER if kind is int else _LARGEST_FLOAT
    if not -largest <= value <= largest:  # NaN too
        raise ConfigError(
            f"config.json sets {key}={value!r}; expected a number of at most {largest}"
        )
    return kind(value)


def flag(raw: Mapping[str, Any], key: str, default: bool = False) -> bool:
    """raw[key] as a bool; an absent key gives `default`, null is False."""
    value = raw.get(key, default)
    if not isinstance(value, bool | None):
        raise ConfigError(f"config.json sets {key}={value!r}; expected true or false")
    return bool(value)


def ids_of(
    raw: Mapping[str, Any], key: str, default: int | None = None, *, file: str = "config.json"
) -> tuple[int, ...]:
    """Token ids of a key that holds an id, a list of ids or null; an absent key gives `default`.

    Negative ids, which some files use for "none", are dropped.

    Raises:
      ConfigError: the value holds something else; names `file`.
    """
    value = raw.get(key, default)
    values = value if isinstance(value, list | tuple) else [] if value is None else [value]
    if not all(is_integer(i) and i <= LARGEST_INTEGER for i in values):
        raise ConfigError(f"{file} sets {key}={value!r}; expected token ids")
    return tuple(i for i in values if i >= 0)


def ids_value(ids: tuple[int, ...]) -> int | list[int] | None:
    """The value of a key for these token ids, as `ids_of` reads it."""
    return ids[0] if len(ids) == 1 else list(ids) or None
