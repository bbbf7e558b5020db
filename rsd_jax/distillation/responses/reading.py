"""Opens the responses of `generate_responses` as a source of training windows."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rsd_jax.core.types import LanguageModel
from rsd_jax.distillation.data.corpus import is_held_out
from rsd_jax.distillation.data.windows import Top
from rsd_jax.distillation.responses.identities import tokenizer_identity
from rsd_jax.distillation.responses.manifest import read_manifest
from rsd_jax.distillation.responses.shards import TOP_FIELDS, Shard, read_shard
from rsd_jax.distillation.responses.source import ResponseSource, as_source, joined
from rsd_jax.errors import ConfigError


def open_responses(
    directory: str | pathlib.Path,
    *,
    weight: float = 1.0,
    models: Mapping[str, LanguageModel] | None = None,
    tokenizer: Any = None,
    top: bool = False,
    keep: Callable[[str], bool] | None = None,
) -> ResponseSource:
    """All responses of a directory, in memory; the source has the directory's name.

    Args:
      directory: of `generate_responses`, complete.
      weight: weight in a mixture.
      models: models that will read the windows, by their names in errors, e.g. "draft".
      tokenizer: checked to be the tokenizer of the responses; None: not checked.
      top: whether to read the target's log probabilities, the largest part of the files.
      keep: says by the name of a prompt whether to read its responses; None for all.

    Raises:
      ConfigError: there are no responses, or none is kept; a model or the tokenizer does not fit
        the responses; `top` is set and no log probabilities were stored.
      CheckpointError: the manifest or a shard is missing, damaged or of another version.
    """
    directory = pathlib.Path(directory)
    manifest = read_manifest(directory)
    settings = manifest["settings"]
    _check_vocabulary(directory, settings, models or {}, tokenizer)
    if top and not settings["top_logprobs"]:
        raise ConfigError(
            f"{directory} holds no log probabilities of the target; generate it with "
            "top_logprobs above 0, or read it with top=False"
        )
    shards = [
        _kept(read_shard(directory, index, manifest["config_hash"], top=top), keep)
        for index in range(manifest["shards"])
    ]
    if not any(len(shard.length) for shard in shards):
        raise ConfigError(
            f"{directory} holds no response of this split; answer more prompts "
            "(self_prompts.count, prompts, prompt_files)"
        )
    return as_source(
        directory.name,
        _joined(shards, "tokens"),
        _joined(shards, "length"),
        _joined(shards, "prompt_length"),
        weight=weight,
        top=Top(*(_joined(shards, name) for name in TOP_FIELDS)) if top else None,
    )


def open_split(
    folders: Sequence[pathlib.Path], held_out: bool | None, **options: Any
) -> ResponseSource:
    """The responses of several directories as one source.

    Args:
      folders: at least one, each of `generate_responses`.
      held_out: whether to read the responses to held-out prompts, or to all others; None for all.
      options: of `open_responses`, whose errors this raises.
    """
    keep = None if held_out is None else lambda name: is_held_out(name) == held_out
    return joined([open_responses(folder, keep=keep, **options) for folder in folders])


def read_sequences(
    directory: str | pathlib.Path,
) -> Iterator[tuple[str, float, list[int], list[int]]]:
    """The prompt's name, the temperature, the prompt and the response, sequence after sequence.

    Args:
      directory: of `generate_responses`, complete.

    Raises:
      ConfigError: there are no responses.
      CheckpointError: the manifest or a shard is missing, damaged or of another version.
    """
    directory = pathlib.Path(directory)
    manifest = read_manifest(directory)
    for index in range(manifest["shards"]):
        shard = read_shard(directory, index, manifest["config_hash"])
        ends = shard.length.cumsum()
        for row, end in enumerate(ends):
            ids = shard.tokens[end - shard.length[row] : end].tolist()
            size = int(shard.prompt_length[row])
            yield str(shard.name[row]), float(shard.temperature[row]), ids[:size], ids[size:]


def _kept(shard: Shard, keep: Callable[[str], bool] | None) -> Shard:
    """The sequences of the prompts whose name is to be kept."""
    if keep is None:
        return shard
    chosen = np.asarray([keep(str(name)) for name in shard.name], bool)
    responses = shard.length - shard.prompt_length
    # All other fields have an entry per sequence.
    entries = {"tokens": np.repeat(chosen, shard.length)}
    entries |= dict.fromkeys(TOP_FIELDS, np.repeat(chosen, responses))
    kept: dict[str, Any] = {}
    for field in dataclasses.fields(shard):
        array = getattr(shard, field.name)
        kept[field.name] = None if array is None else array[entries.get(field.name, chosen)]
    return Shard(**kept)


def _joined(shards: Sequence[Shard], name: str) -> np.ndarray:
    return np.concatenate([getattr(shard, name) for shard in shards])


def _check_vocabulary(
    directory: pathlib.Path,
    settings: Mapping[str, Any],
    models: Mapping[str, LanguageModel],
    tokenizer: Any,
) -> None:
    vocab_size = settings["target"]["vocab_size"]
    for name, model in models.items():
        if model.vocab_size != vocab_size:
            raise ConfigError(
                f"the responses in {directory} are of a model with vocab_size={vocab_size}, the "
                f"{name} has {model.vocab_size}; all must share one tokenizer"
            )
    if tokenizer is None:
        return
    if tokenizer_identity(tokenizer, vocab_size) != settings["tokenizer"]:
        raise ConfigError(
            f"the responses in {directory} were encoded with another tokenizer; give that "
            "tokenizer, or generate the responses again"
        )
