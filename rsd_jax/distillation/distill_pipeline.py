"""The stages that distil a target into its draft on what the target writes."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from tokenizers import Tokenizer

from rsd_jax.distillation.corpus import read_files
from rsd_jax.distillation.response_settings import ResponseSettings
from rsd_jax.distillation.responses import Progress, generate_responses
from rsd_jax.distillation.training_prompts import training_prompts
from rsd_jax.errors import ConfigError
from rsd_jax.job import LoadedModel
from rsd_jax.methods import build_method

STAGES = ("generate",)


@dataclasses.dataclass(frozen=True)
class DistillPipeline:
    """Stages that read each other's results from one work directory.

    Attributes:
      config: corpus_root, prompts, max_prompt_tokens, method, responses; see
        configs/distill/quickstart.py.
      workdir: responses/ of the generate stage.
      target: whose law is distilled.
      draft: what it is distilled into.
      tokenizer: of both.
    """

    config: Mapping[str, Any]
    workdir: pathlib.Path
    target: LoadedModel
    draft: LoadedModel
    tokenizer: Tokenizer

    def run(self, stage: str, progress: Callable[[Progress], None] | None = None) -> None:
        """Runs one stage; one that was interrupted goes on, one that is finished returns soon.

        Args:
          stage: one of `STAGES`.
          progress: called after each shard of responses.

        Raises:
          ConfigError: the stage is unknown, or see `generate_responses`.
          CheckpointError, NonFiniteLogitsError: see `generate_responses`.
        """
        if stage == "generate":
            self.generate(progress)
        else:
            raise ConfigError(f"stage={stage!r} must be one of {STAGES}")

    def generate(self, progress: Callable[[Progress], None] | None = None) -> None:
        """The target's responses to training prompts; they end with the target's own EOS."""
        prompts = training_prompts(
            read_files(self.config["corpus_root"] or None),
            self.config["prompts"],
            self.tokenizer,
            max_tokens=self.config["max_prompt_tokens"],
        )
        own = {"eos_ids": getattr(getattr(self.target.model, "config", None), "eos_ids", ())}
        generate_responses(
            self.target,
            prompts,
            ResponseSettings.from_mapping(own | dict(self.config["responses"])),
            self.workdir / "responses",
            tokenizer=self.tokenizer,
            method=build_method(**self.config["method"]),
            draft=self.draft,
            progress=progress,
        )
