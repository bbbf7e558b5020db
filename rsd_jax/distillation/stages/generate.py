"""The prompts that the target writes itself, and the target's responses to training prompts."""

import dataclasses
from collections.abc import Callable

from rsd_jax.distillation.data.training_prompts import training_prompts
from rsd_jax.distillation.responses.generate import ShardProgress, generate_responses
from rsd_jax.distillation.responses.self_prompts import write_self_prompts
from rsd_jax.distillation.workspace import SELF_PROMPTS, WARM_START, Workspace
from rsd_jax.errors import ConfigError


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
    settings, target = workspace.settings, workspace.target
    method, responses = settings.built_method(), settings.section("responses")
    ends = responses.eos_ids or workspace.ends[1]
    draft = workspace.loaded(WARM_START) if method.drafter.needs_draft_model else None
    prompts = _prompts(workspace)
    seen: list[ShardProgress] = []

    def follow(done: ShardProgress) -> None:
        seen.append(done)
        if progress is not None:
            progress(done)

    generate_responses(
        target,
        prompts,
        dataclasses.replace(responses, eos_ids=ends),
        workspace.root / "responses",
        tokenizer=workspace.tokenizer(),
        method=method,
        draft=draft,
        progress=follow,
    )
    if seen:
        files, limit = settings.prompt_files, responses.max_new_tokens
        workspace.warn_if_empty(files, seen[-1].responses, seen[-1].tokens, limit)


def _prompts(workspace: Workspace) -> dict[str, list[int]]:
    """Encoded prompts: of `prompts`, of the user's `prompt_files`, and of the target itself."""
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
    if not prompts:
        raise ConfigError(
            "prompts, prompt_files and self_prompts give no prompts; the target needs prompts"
        )
    return prompts
