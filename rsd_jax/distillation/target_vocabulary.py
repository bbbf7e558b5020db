"""The size of a draft's vocabulary, where a configuration leaves it out."""

from collections.abc import Mapping
from typing import Any

from rsd_jax.errors import ConfigError
from rsd_jax.models.checkpoint import read_config
from rsd_jax.models.hub import local_path

_DRAFTS = ("draft_warm_start", "draft")


def with_target_vocabulary(values: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration whose drafts with vocab_size None get that of the trained target.

    With `frequent_tokens` the drafts get that number instead.

    Args:
      values: a whole configuration.

    Raises:
      ConfigError: there is no trained target, or its config.json is not supported.
      CheckpointError: the target's directory has no config.json, or the Hub does not give the
        target.
    """
    filled = dict(values)
    for name in _DRAFTS:
        section: Any = values.get(name)
        shape: Any = section.get("model") if isinstance(section, Mapping) else None
        if not isinstance(shape, Mapping) or "vocab_size" not in shape:
            continue  # what is malformed is refused with all other values
        if shape["vocab_size"] is not None:
            continue
        if (own := values.get("frequent_tokens")) is not None:
            filled[name] = {**section, "model": {**shape, "vocab_size": own}}
            continue
        if not values.get("target_directory"):
            raise ConfigError(
                f"{name}.model.vocab_size is None, which means the target's: set target_directory "
                "to the directory of a trained target"
            )
        size = read_config(local_path(values["target_directory"])).vocab_size
        filled[name] = {**section, "model": {**shape, "vocab_size": size}}
    return filled
