"""The stages from text to a pair of models: text, target, draft, what the target writes, export."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
from tokenizers import Tokenizer

from rsd_jax.distillation.data import corpus, documents, functions, passages
from rsd_jax.distillation.data import tokenizer as bpe
from rsd_jax.distillation.data.mixture import check_weights
from rsd_jax.distillation.data.training_prompts import prompts_from_files, training_prompts
from rsd_jax.distillation.responses.generate import Progress, generate_responses
from rsd_jax.distillation.settings import ResponseSettings
from rsd_jax.distillation.stages.decoding import decode
from rsd_jax.distillation.stages.export import export
from rsd_jax.distillation.stages.layer_dropout import SKIPPING, train_skipping
from rsd_jax.distillation.stages.loss_comparison import compare_losses
from rsd_jax.distillation.stages.training import train_stage
from rsd_jax.distillation.workspace import DRAFT, TARGET, WARM_START, Workspace
from rsd_jax.engine.methods import build_method
from rsd_jax.errors import ConfigError
from rsd_jax.tasks.docstrings import DOCSTRING_PROMPTS
from rsd_jax.tasks.prompts import QUICKSTART_PROMPTS, save_prompts

STAGES = ("text", TARGET, WARM_START, "generate", DRAFT, "export", "decode")
"""In order; each reads what the earlier ones left."""

EXTRA_STAGES = ("losses", "prompts", SKIPPING)
"""Not part of making a pair."""


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """Stages that read each other's results from one work directory.

    Attributes:
      config: see configs/distill/quickstart.py.
      workdir: corpus/ and tokenizer/ of the text stage, responses/ of the generate stage, one
        directory per training stage.
      export_dir: receives target/, draft/ and, from the `prompts` stage, the files of prompts.
      mesh: what is trained and measured on, see `train`; None for one device.
    """

    config: Mapping[str, Any]
    workdir: pathlib.Path
    export_dir: pathlib.Path
    mesh: jax.sharding.Mesh | None = None

    @property
    def workspace(self) -> Workspace:
        """Where the stages find each other's results."""
        return Workspace(self.config, self.workdir, self.mesh)

    def run(self, stage: str, progress: Callable[[Progress], None] | None = None) -> None:
        """Runs one stage; training and generating go on where they were, others start again.

        Args:
          stage: of `STAGES` or `EXTRA_STAGES`.
          progress: called after each shard of responses.

        Raises:
          ConfigError: the stage is unknown, or one that it needs has not run.
          CheckpointError, NonFiniteLossError, NonFiniteLogitsError: see `train`, `generate`.
        """
        stages: dict[str, Callable[[], Any]] = {
            "text": self.prepare_text,
            TARGET: self.train_target,
            WARM_START: lambda: train_stage(self.workspace, WARM_START),
            "generate": lambda: self.generate(progress),
            DRAFT: lambda: train_stage(self.workspace, DRAFT),
            "export": lambda: export(self.workspace, self.export_dir),
            "decode": lambda: decode(self.workspace),
            "losses": lambda: compare_losses(self.workspace),
            "prompts": self.write_prompts,
            SKIPPING: lambda: train_skipping(self.workspace, self.export_dir),
        }
        if stage not in stages:
            raise ConfigError(f"stage={stage!r} must be one of {(*STAGES, *EXTRA_STAGES)}")
        stages[stage]()

    def _library(self) -> list[corpus.SourceFile]:
        return corpus.read_files(self.config["corpus_root"] or None)

    def prepare_text(self) -> None:
        """Writes both splits of every source as tokens; learns the tokenizer unless there is one.

        Raises:
          ConfigError: the mixture names no source, or one that has no documents; documents of the
            target have no one mark for their beginning or end.
        """
        config, workspace = self.config, self.workspace
        sources = check_weights(config["mixture"], documents.SOURCES)
        library = self._library() if set(sources) - {documents.FILES} else []
        tasks = documents.task_documents(library, config["mixture"], config["number_words"])
        if documents.LIBRARY not in sources:
            library = []
        bos_id, eos_ids = workspace.ends
        if bos_id is None or not eos_ids:
            raise ConfigError(
                f"{workspace.target_directory} names no BOS or EOS token; add bos_token_id and "
                "eos_token_id to its config.json"
            )
        own = dict(config["files"]) if documents.FILES in sources else None
        if workspace.target_directory is None:
            trained = bpe.train_tokenizer(
                documents.tokenizer_texts(library, tasks, config["tokenizer_documents"], own),
                vocab_size=config["vocab_size"],
            )
            self._check_unused(trained)
            length = config[TARGET]["model"]["max_positions"]
            bpe.save_tokenizer(trained, workspace.tokenizer_directory, max_length=length)
        documents.write_sources(
            library,
            tasks,
            workspace.tokenizer(),
            self.workdir / "corpus",
            own=own,
            bos_id=bos_id,
            eos_id=eos_ids[0],
        )

    def _check_unused(self, tokenizer: Tokenizer) -> None:
        """Refuses to put another tokenizer under models that were trained with one."""
        if not (self.workdir / TARGET / "checkpoints").is_dir():
            return
        if tokenizer.get_vocab() != self.workspace.tokenizer().get_vocab():
            raise ConfigError(
                f"the text gives another tokenizer than the models in {self.workdir} were trained "
                "with; use another workdir"
            )

    def train_target(self) -> None:
        """Trains the target, if it was not trained elsewhere."""
        if self.workspace.target_directory is None:
            train_stage(self.workspace, TARGET)

    def generate(self, progress: Callable[[Progress], None] | None = None) -> None:
        """The target's responses to training prompts; they end with the target's own EOS."""
        workspace = self.workspace
        target = workspace.target
        method = build_method(**self.config["method"])
        draft = workspace.loaded(WARM_START) if method.drafter.needs_draft_model else None
        prompts = self._prompts()
        own = {"eos_ids": workspace.model(TARGET).config.eos_ids}
        generate_responses(
            target,
            prompts,
            ResponseSettings.from_mapping(own | dict(self.config["responses"])),
            self.workdir / "responses",
            tokenizer=workspace.tokenizer(),
            method=method,
            draft=draft,
            progress=progress,
        )

    def _prompts(self) -> dict[str, list[int]]:
        """Of the sources in `config.prompts`, and of the user's `config.prompt_files`."""
        config, tokenizer = self.config, self.workspace.tokenizer()
        limit = config["max_prompt_tokens"]
        prompts: dict[str, list[int]] = {}
        if any(config["prompts"].values()):
            prompts |= training_prompts(
                self._library(), config["prompts"], tokenizer, max_tokens=limit
            )
        if config["prompt_files"]["patterns"]:
            prompts |= prompts_from_files(
                tokenizer=tokenizer, max_tokens=limit, **config["prompt_files"]
            )
        if not prompts:
            raise ConfigError("prompts and prompt_files ask for none; the target needs prompts")
        return prompts

    def write_prompts(self, count: int = 48, per_file: int = 5) -> None:
        """Cuts prompts from this machine's held-out files into `export_dir`.

        prompts.jsonl gets `count` passages for completion, docstrings.jsonl the functions.
        """
        files = self._library()
        prompts = passages.cut_prompts(
            files, self.workspace.tokenizer(), count=count, per_file=per_file
        )
        save_prompts(prompts, self.export_dir / QUICKSTART_PROMPTS.name)
        held_out = functions.docstring_examples(files)["heldout"]
        described = functions.cut_docstring_prompts(held_out)
        save_prompts(described, self.export_dir / DOCSTRING_PROMPTS.name)
