"""The target's responses to training prompts."""

import dataclasses
from collections.abc import Callable

from rsd_jax.distillation.data.training_prompts import training_prompts
from rsd_jax.distillation.responses.generate import ShardProgress, generate_responses
from rsd_jax.distillation.workspace import WARM_START, Workspace
from rsd_jax.errors import ConfigError


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
    """Encoded prompts of the sources in `prompts` and of the user's `prompt_files`."""
    settings = workspace.settings
    limit = settings.section("max_prompt_tokens")
    prompts: dict[str, list[int]] = {}
    if any(settings.prompts.values()):
        prompts |= training_prompts(
            workspace.library(), settings.prompts, workspace.tokenizer(), max_tokens=limit
        )
    if settings.prompt_files.patterns:
        prompts |= workspace.own_prompts(settings.prompt_files)
    if not prompts:
        raise ConfigError("prompts and prompt_files give no prompts; the target needs prompts")
    return prompts
