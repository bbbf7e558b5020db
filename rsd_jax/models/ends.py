"""The token ids that end an answer: what the files of a model and its tokenizer say."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from rsd_jax.errors import ConfigError
from rsd_jax.models.config_values import EOS_KEY, ids_of
from rsd_jax.models.weight_files import read_json

GENERATION_CONFIG = "generation_config.json"


def with_all_ends(config: Any, raw: Mapping[str, Any], directory: pathlib.Path) -> Any:
    """The configuration with the ids of generation_config.json, in which chat models name theirs.

    Where generation_config.json names ids, they count together with those that config.json states;
    the defaults of a family do not count then. Ids of config.json come first: the first id ends the
    documents of training text.

    Args:
      config: `ModelConfig` of `raw`.
      raw: content of config.json.
      directory: where both files are; generation_config.json may be missing.

    Raises:
      CheckpointError: generation_config.json is not a JSON object.
      ConfigError: its ids are no ids.
    """
    path = directory / GENERATION_CONFIG
    named = ids_of(read_json(path), EOS_KEY, file=GENERATION_CONFIG) if path.is_file() else ()
    if not named:
        return config
    stated = config.eos_ids if EOS_KEY in raw else ()
    return dataclasses.replace(config, eos_ids=tuple(dict.fromkeys((*stated, *named))))


def end_ids(config: Any, tokenizer: Callable[[], Any]) -> tuple[int, ...]:
    """Ids that end an answer: those of the model's files, or else the tokenizer's.

    Args:
      config: a `ModelConfig`; None for a model without one.
      tokenizer: gives the tokenizer of transformers; called only if it is needed.

    Raises:
      ConfigError: neither has an end-of-sequence token.
    """
    own = tuple(getattr(config, "eos_ids", ()))
    if own:
        return own
    end: int | None = tokenizer().eos_token_id
    if end is None:
        raise ConfigError(
            "neither the target's config.json or generation_config.json nor its tokenizer has an "
            f"end-of-sequence token; add {EOS_KEY} to config.json"
        )
    return (end,)
