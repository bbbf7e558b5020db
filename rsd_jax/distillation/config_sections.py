"""Sections of a configuration of `launch/distill.py`, with the defaults of `settings`."""

import dataclasses
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from rsd_jax.distillation.settings import (
    FollowUps,
    PromptFiles,
    ResponseSettings,
    SelfPrompts,
    TrainingSettings,
)


def recipe(**values: Any) -> ConfigDict:
    """A training run; values as in `TrainingSettings`."""
    return ConfigDict(dataclasses.asdict(TrainingSettings(**values)))


def responses(**values: Any) -> ConfigDict:
    """A set of responses, ended by the target's own ids; values as in `ResponseSettings`."""
    settings = dataclasses.asdict(ResponseSettings(**values))
    del settings["eos_ids"]
    return ConfigDict(settings | {"top_k": placeholder(int)})


def self_prompts(**values: Any) -> ConfigDict:
    """Prompts that the target writes; values as in `SelfPrompts`."""
    settings = dataclasses.asdict(SelfPrompts(**values))
    del settings["eos_ids"], settings["top_logprobs"]
    return ConfigDict(settings | {"top_k": placeholder(int)})


def follow_ups(**values: Any) -> ConfigDict:
    """Answers to longer prompts, ended by the target's own ids; values as in `FollowUps`."""
    settings = dataclasses.asdict(FollowUps(**values))
    del settings["eos_ids"]
    return ConfigDict(settings | {"top_k": placeholder(int)})


def prompt_files(*patterns: str, template: str) -> ConfigDict:
    """The user's own prompts, see `training_prompts.prompts_from_files`.

    Args:
      patterns: files, folders or patterns; none: there are no such prompts.
      template: "chat" for the tokenizer's own chat template, or a text with `{prompt}`.
    """
    settings = dataclasses.asdict(PromptFiles(patterns=patterns, template=template))
    return ConfigDict(settings | {"limit": placeholder(int), "system": placeholder(str)})
