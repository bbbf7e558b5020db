"""The manifest of a directory of responses: everything that the responses depend on.

`manifest.json` has `format`, `version`, `shards` (their number), `settings`, `config_hash` (of the
settings) and, for information only, `made_with` (versions of the libraries).
"""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from rsd_jax.distillation.responses.shards import VERSION
from rsd_jax.errors import CheckpointError, ConfigError, is_integer
from rsd_jax.records.complete_files import write_json
from rsd_jax.records.hardware import current_versions
from rsd_jax.records.json_objects import json_object
from rsd_jax.records.rows import config_hash

FORMAT = "rsd_jax responses"
MANIFEST = "manifest.json"


def read_manifest(directory: pathlib.Path) -> dict[str, Any]:
    """The manifest of a directory.

    Raises:
      ConfigError: there is no manifest.
      CheckpointError: the manifest is damaged or of another version.
    """
    path = directory / MANIFEST
    if not path.is_file():
        raise ConfigError(
            f"{directory} holds no responses ({MANIFEST} is missing); run the generate stage, or "
            "give the directory that it wrote"
        )
    again = "give another directory, or delete this one and run the generate stage again"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror})") from None
    try:
        manifest = json_object(content)
        version = manifest["format"], manifest["version"]
        complete = manifest.keys() >= {"shards", "settings", "config_hash"}
        complete = complete and config_hash(manifest["settings"]) == manifest["config_hash"]
        complete = complete and is_integer(manifest["shards"]) and manifest["shards"] >= 0
    except (ValueError, KeyError):
        raise CheckpointError(f"{path} is no manifest of responses; {again}") from None
    if version != (FORMAT, VERSION):
        raise CheckpointError(f"{path} is {version}, expected {(FORMAT, VERSION)}; {again}")
    if not complete:
        raise CheckpointError(f"{path} has been changed by hand; {again}")
    return manifest


def begin(directory: pathlib.Path, settings: Mapping[str, Any], shards: int) -> dict[str, Any]:
    """The manifest of a run with these settings, written if the run is new.

    Raises:
      ConfigError: the directory has a run with other settings; names the first that differs.
      CheckpointError: the manifest is damaged, or there are shards without a manifest.
    """
    # Through JSON, which makes tuples lists, as in the settings that are read back.
    settings_now: dict[str, Any] = json.loads(json.dumps(settings))
    directory.mkdir(parents=True, exist_ok=True)
    if (directory / MANIFEST).is_file():
        manifest = read_manifest(directory)
        _check_same(directory, manifest["settings"], settings_now)
        for partial in directory.glob(".*.partial"):  # left by a killed run
            partial.unlink()
        return manifest
    if any(directory.glob("shard-*.npz")):
        raise CheckpointError(f"{directory} holds shards but no {MANIFEST}; give another directory")
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "config_hash": config_hash(settings_now),
        "shards": shards,
        "settings": settings_now,
        "made_with": current_versions(),
    }
    write_json(directory / MANIFEST, manifest)
    return manifest


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {name: value}
    items = [_flat(item, f"{name}.{key}" if name else key) for key, item in value.items()]
    return {key: item for part in items for key, item in part.items()}


def _check_same(directory: pathlib.Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    before, now = _flat(old), _flat(new)
    for name in [*now, *(name for name in before if name not in now)]:
        if before.get(name) != now.get(name):
            raise ConfigError(
                f"the responses in {directory} were begun with {name}={before.get(name)!r}, this "
                f"run has {now.get(name)!r}; set it back, or give another directory"
            )
