"""The target's responses to training prompts."""

import dataclasses
from collections.abc import Callable

from rsd_jax.distillation.data.training_prompts import prompts_from_files, training_prompts
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
    generate_responses(
        target,
        prompts,
        dataclasses.replace(responses, eos_ids=ends),
        workspace.root / "responses",
        tokenizer=workspace.tokenizer(),
        method=method,
        draft=draft,
        progress=progress,
    )


def _prompts(workspace: Workspace) -> dict[str, list[int]]:
    """Encoded prompts of the sources in `prompts` and of the user's `prompt_files`."""
    settings, tokenizer = workspace.settings, workspace.tokenizer()
    limit = settings.section("max_prompt_tokens")
    prompts: dict[str, list[int]] = {}
    if any(settings.prompts.values()):
        prompts |= training_prompts(
            workspace.library(), settings.prompts, tokenizer, max_tokens=limit
        )
    if settings.prompt_files.patterns:
        own = dataclasses.asdict(settings.prompt_files)
        prompts |= prompts_from_files(tokenizer=tokenizer, max_tokens=limit, **own)
    if not prompts:
        raise ConfigError("prompts and prompt_files give no prompts; the target needs prompts")
    return prompts
