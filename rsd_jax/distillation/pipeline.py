"""The stages from text to a pair of models."""

import functools
from collections.abc import Callable

from rsd_jax.core.processes import on_writer, writer_holds
from rsd_jax.distillation.responses.generate import ShardProgress
from rsd_jax.distillation.stages.decoding import decode_test_prompts
from rsd_jax.distillation.stages.export import export
from rsd_jax.distillation.stages.follow_ups import write_follow_ups
from rsd_jax.distillation.stages.generate import generate, write_prompts_of_target
from rsd_jax.distillation.stages.held_out_prompts import write_prompts
from rsd_jax.distillation.stages.layer_dropout import train_layer_dropout
from rsd_jax.distillation.stages.loss_comparison import compare_losses
from rsd_jax.distillation.stages.pack import pack
from rsd_jax.distillation.stages.text import write_text
from rsd_jax.distillation.stages.training import train_draft, train_target, train_warm_start
from rsd_jax.distillation.stages.vocabulary import write_vocabulary
from rsd_jax.distillation.workspace import (
    DRAFT,
    FOLLOW_UPS,
    SELF_PROMPTS,
    SKIPPING,
    TARGET,
    VOCABULARY,
    WARM_START,
    Workspace,
)
from rsd_jax.errors import ConfigError
from rsd_jax.records.lock import sole_writer

STAGES: dict[str, Callable[[Workspace], None]] = {
    "text": write_text,
    TARGET: train_target,
    WARM_START: train_warm_start,
    SELF_PROMPTS: write_prompts_of_target,
    "generate": generate,
    FOLLOW_UPS: write_follow_ups,
    VOCABULARY: write_vocabulary,
    DRAFT: train_draft,
    "export": export,
    "decode": decode_test_prompts,
}
"""In order; each stage reads files of earlier stages."""

EXTRA_STAGES: dict[str, Callable[[Workspace], None]] = {
    "losses": compare_losses,
    "pack": pack,
    "prompts": write_prompts,
    SKIPPING: train_layer_dropout,
}
"""Stages that are not needed to make a pair."""

_OF_FILES = ("text", VOCABULARY, "prompts", "pack")  # these read and write files, and use no device


def run_stage(
    workspace: Workspace, stage: str, progress: Callable[[ShardProgress], None] | None = None
) -> None:
    """Runs one stage; training and generation resume, all other stages start again.

    With several processes, all of them see the work directory, and all have to call this.

    Args:
      workspace: what the stages read and write.
      stage: name in `STAGES` or `EXTRA_STAGES`.
      progress: called after each shard of responses.

    Raises:
      ConfigError: the stage is unknown, a stage that it needs has not run, or target and draft have
        different vocabularies, or the draft and its warm start different shapes, or another process
        writes to the work directory.
      CheckpointError, NonFiniteLossError, NonFiniteLogitsError: see `train`, `generate`.
    """
    shown = {
        SELF_PROMPTS: write_prompts_of_target,
        "generate": generate,
        FOLLOW_UPS: write_follow_ups,
    }
    follow = {name: functools.partial(stage, progress=progress) for name, stage in shown.items()}
    stages = STAGES | follow | EXTRA_STAGES
    if stage not in stages:
        raise ConfigError(f"stage={stage!r} must be one of {(*STAGES, *EXTRA_STAGES)}")
    if stage not in (SKIPPING, "prompts"):  # these have no draft
        workspace.check_models()
    with writer_holds(lambda: sole_writer(workspace.root)):
        if stage in _OF_FILES:
            on_writer(stages[stage], workspace)
        else:
            stages[stage](workspace)
