"""Prompts that a chat model writes itself: what it would say in the place of the user.

A chat model that is given only the opening of the user's turn goes on with a message that its own
training data might hold (Magpie, Xu et al. 2024). A draft can thus be trained for a target of which
nothing but the weights is known.
"""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

from rsd_jax.core.types import LoadedModel
from rsd_jax.distillation.responses.generate import ShardProgress, generate_responses
from rsd_jax.distillation.responses.manifest import read_manifest
from rsd_jax.distillation.responses.shards import read_shard
from rsd_jax.distillation.settings import ResponseSettings, SelfPrompts
from rsd_jax.errors import ConfigError
from rsd_jax.text.chat import ChatOptions
from rsd_jax.text.encoding import decode
from rsd_jax.text.prompts import prompt_ids, user_frame, user_messages


def write_self_prompts(
    target: LoadedModel,
    tokenizer: Any,
    settings: SelfPrompts,
    directory: str | pathlib.Path,
    *,
    system: str | None = None,
    chat: ChatOptions | None = None,
    progress: Callable[[ShardProgress], None] | None = None,
) -> None:
    """Samples the user's first message `count` times; shards that are there already are kept.

    The directory is one of `generate_responses`: the prompts are the openings of the user's turn,
    the responses the messages.

    Args:
      target: the model that writes.
      tokenizer: its tokenizer, of transformers, with a chat template.
      settings: how to sample.
      directory: receives manifest.json and the shards.
      system: system message before the user's; None: there is none.
      chat: options for the chat template.
      progress: called after each shard.

    Raises:
      ConfigError: see `user_frame` and `generate_responses`.
      CheckpointError, NonFiniteLogitsError: see `generate_responses`.
    """
    opening, end = user_frame(tokenizer, system=system, chat=chat)
    own = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    del own["count"]
    generate_responses(
        target,
        {f"self/{index}": opening for index in range(settings.count)},
        ResponseSettings(**own | {"eos_ids": (end,)}),
        directory,
        tokenizer=tokenizer,
        progress=progress,
    )


def read_self_prompts(
    directory: str | pathlib.Path,
    tokenizer: Any,
    *,
    max_tokens: int,
    system: str | None = None,
    chat: ChatOptions | None = None,
) -> dict[str, list[int]]:
    """The messages as encoded prompts, by name; a repeated message is taken once.

    Messages without an end, empty messages and prompts of more than `max_tokens` are left out.

    Args:
      directory: of `write_self_prompts`, complete.
      tokenizer: the tokenizer that the messages were written with.
      max_tokens: of a prompt, its chat template included.
      system, chat: as in `write_self_prompts`.

    Raises:
      ConfigError: the directory holds no messages, or no message is left.
      CheckpointError: the manifest or a shard is missing, damaged or of another version.
    """
    directory = pathlib.Path(directory)
    manifest = read_manifest(directory)
    chosen: dict[str, list[int]] = {}
    seen: set[str] = set()
    for index in range(manifest["shards"]):
        shard = read_shard(directory, index, manifest["config_hash"])
        ends = shard.length.cumsum()
        starts = ends - shard.length + shard.prompt_length
        for row, (start, end) in enumerate(zip(starts, ends, strict=True)):
            # The last token is the special token that ends the message.
            text = decode(tokenizer, shard.tokens[start : end - 1].tolist()).strip()
            if not shard.ended[row] or not text or text in seen:
                continue
            seen.add(text)
            ids = prompt_ids(tokenizer, user_messages(text, system), chat=chat)
            if len(ids) <= max_tokens:
                chosen[f"self/{shard.request_id[row]}"] = ids
    if not chosen:
        raise ConfigError(
            f"{directory} holds no message that ended within {max_tokens} tokens; raise "
            "self_prompts.max_new_tokens or max_prompt_tokens"
        )
    return chosen
