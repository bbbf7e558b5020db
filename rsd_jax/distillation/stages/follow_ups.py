"""The `follow_ups` stage: the target's answers to longer prompts, made from its first answers."""

import dataclasses
from collections.abc import Callable

from rsd_jax.distillation.data.corpus import is_held_out
from rsd_jax.distillation.data.follow_ups import Answered, follow_ups
from rsd_jax.distillation.responses.generate import ShardProgress
from rsd_jax.distillation.responses.reading import read_sequences
from rsd_jax.distillation.settings import ResponseSettings
from rsd_jax.distillation.stages.generate import answer
from rsd_jax.distillation.workspace import FOLLOW_UPS, RESPONSES, Workspace
from rsd_jax.text.chat import SYSTEM, Message
from rsd_jax.text.encoding import decode
from rsd_jax.text.prompts import prompt_ids, user_frame


def write_follow_ups(
    workspace: Workspace, progress: Callable[[ShardProgress], None] | None = None
) -> None:
    """Writes the missing shards of follow_ups/; nothing without the section `follow_ups`.

    The prompts are made from responses to training prompts, so a held-out response is in none. They
    depend on these responses and `follow_ups.seed`. Which of them are held out is decided by their
    own names.

    Args:
      workspace: gives the target and its first responses.
      progress: called after each shard.

    Raises:
      ConfigError: the generate stage has not run; its prompts are not those of the chat template;
        see `follow_ups` and `generate_responses`.
    """
    settings = workspace.settings.follow_ups
    if settings is None:
        return
    own = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    count, limit = own.pop("count"), own.pop("max_prompt_tokens")
    files, tokenizer = workspace.settings.prompt_files, workspace.chat_tokenizer
    opening = () if files.system is None else (Message(SYSTEM, files.system),)
    made = follow_ups(_answered(workspace), count, seed=settings.seed)
    encoded = {
        f"follow_up/{index}": prompt_ids(tokenizer, (*opening, *messages), chat=files.chat)
        for index, messages in enumerate(made)
    }
    prompts = {name: ids for name, ids in encoded.items() if len(ids) <= limit}
    answer(workspace, prompts, ResponseSettings(**own), FOLLOW_UPS, progress)


def _answered(workspace: Workspace) -> list[Answered]:
    """First messages with the target's answers at the lowest temperature, of training prompts.

    Answers at a high temperature read too little like a text. Prompts that the chat template did
    not make are left out.
    """
    files, tokenizer = workspace.settings.prompt_files, workspace.chat_tokenizer
    opening, end = user_frame(tokenizer, system=files.system, chat=files.chat)
    ends = {end, *workspace.ends[1]}
    found = []
    for name, temperature, prompt, response in read_sequences(workspace.root / RESPONSES):
        message = prompt[len(opening) :]
        if is_held_out(name) or prompt[: len(opening)] != opening or end not in message:
            continue
        asked, answered = message[: message.index(end)], [id for id in response if id not in ends]
        found.append(
            (temperature, Answered(*(decode(tokenizer, ids).strip() for ids in (asked, answered))))
        )
    lowest = min((temperature for temperature, _ in found), default=0.0)
    return [each for temperature, each in found if temperature == lowest]
