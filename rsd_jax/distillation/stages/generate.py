"""The prompts that the target writes itself, and the target's responses to training prompts."""

import dataclasses
from collections.abc import Callable

from rsd_jax.distillation.data.template_prompts import template_prompts
from rsd_jax.distillation.data.training_prompts import training_prompts
from rsd_jax.distillation.responses.generate import ShardProgress, generate_responses
from rsd_jax.distillation.responses.self_prompts import write_self_prompts
from rsd_jax.distillation.settings import ResponseSettings
from rsd_jax.distillation.workspace import RESPONSES, SELF_PROMPTS, WARM_START, Workspace
from rsd_jax.errors import ConfigError
from rsd_jax.text.prompts import prompt_ids, user_messages


def write_prompts_of_target(
    workspace: Workspace, progress: Callable[[ShardProgress], None] | None = None
) -> None:
    """Writes the missing shards of self_prompts/; nothing without the section `self_prompts`.

    Args:
      workspace: gives the target.
      progress: called after each shard.

    Raises:
      ConfigError: see `write_self_prompts`.
    """
    settings = workspace.settings.self_prompts
    if settings is not None:
        write_self_prompts(
            workspace.target,
            workspace.chat_tokenizer,
            settings,
            workspace.root / SELF_PROMPTS,
            system=workspace.settings.prompt_files.system,
            chat=workspace.settings.prompt_files.chat,
            progress=progress,
        )


def generate(workspace: Workspace, progress: Callable[[ShardProgress], None] | None = None) -> None:
    """Writes the missing shards of responses/.

    Args:
      workspace: gives the target and the prompts.
      progress: called after each shard.

    Raises:
      ConfigError: there are no prompts; see `generate_responses`.
    """
    prompts, responses = _prompts(workspace), workspace.settings.section("responses")
    seen: list[ShardProgress] = []

    def follow(done: ShardProgress) -> None:
        seen.append(done)
        if progress is not None:
            progress(done)

    answer(workspace, prompts, responses, RESPONSES, follow)
    if seen:
        files, limit = workspace.settings.prompt_files, responses.max_new_tokens
        workspace.warn_if_empty(files, seen[-1].responses, seen[-1].tokens, limit)


def answer(
    workspace: Workspace,
    prompts: dict[str, list[int]],
    responses: ResponseSettings,
    folder: str,
    progress: Callable[[ShardProgress], None] | None,
) -> None:
    """Writes the missing shards of the target's responses to `prompts`.

    Args:
      workspace: gives the target, the method, and the warm start where the method drafts with it.
      prompts: encoded, by name.
      responses: how to draw them; without `eos_ids` the target's own ids end them.
      folder: in the work directory.
      progress: called after each shard.

    Raises:
      ConfigError: see `generate_responses`.
    """
    method = workspace.settings.built_method()
    draft = workspace.loaded(WARM_START) if method.drafter.needs_draft_model else None
    generate_responses(
        workspace.target,
        prompts,
        dataclasses.replace(responses, eos_ids=responses.eos_ids or workspace.ends[1]),
        workspace.root / folder,
        tokenizer=workspace.tokenizer(),
        method=method,
        draft=draft,
        progress=progress,
    )


def _prompts(workspace: Workspace) -> dict[str, list[int]]:
    """Encoded prompts by name, of every source that the settings ask for."""
    settings = workspace.settings
    limit = settings.section("max_prompt_tokens")
    prompts: dict[str, list[int]] = {}
    if any(settings.prompts.values()):
        prompts |= training_prompts(
            workspace.library(), settings.prompts, workspace.tokenizer(), max_tokens=limit
        )
    if settings.prompt_files.patterns:
        prompts |= workspace.own_prompts(settings.prompt_files)
    if settings.self_prompts is not None:
        prompts |= workspace.prompts_of_target()
    if settings.template_prompts is not None:
        prompts |= _template_prompts(workspace, settings.template_prompts)
    if not prompts:
        raise ConfigError(
            "prompts, prompt_files, self_prompts and template_prompts give no prompts; the target "
            "needs prompts"
        )
    return prompts


def _template_prompts(workspace: Workspace, count: int) -> dict[str, list[int]]:
    """Messages of `template_prompts` as prompts; those that are too long are left out."""
    files, limit = workspace.settings.prompt_files, workspace.settings.section("max_prompt_tokens")
    encoded = {
        f"template/{index}": prompt_ids(
            workspace.chat_tokenizer, user_messages(text, files.system), chat=files.chat
        )
        for index, text in enumerate(template_prompts(count))
    }
    return {name: ids for name, ids in encoded.items() if len(ids) <= limit}
