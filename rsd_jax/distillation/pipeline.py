"""The stages from a standard library to a shipped pair: tokenizer, target, draft, export."""

import contextlib
import dataclasses
import functools
import json
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import jax

from rsd_jax.distillation import corpus, documents, functions, passages
from rsd_jax.distillation import tokenizer as bpe
from rsd_jax.distillation.checkpoints import Checkpoints
from rsd_jax.distillation.evaluate import evaluate
from rsd_jax.distillation.losses import LOSSES
from rsd_jax.distillation.mixture import Mixture
from rsd_jax.distillation.recipe import Recipe
from rsd_jax.distillation.step import abstract_state
from rsd_jax.distillation.train import train
from rsd_jax.errors import ConfigError
from rsd_jax.models.config import LlamaConfig
from rsd_jax.models.llama import LlamaModel
from rsd_jax.sharding import MeshLayout
from rsd_jax.tasks.docstrings import DOCSTRING_PROMPTS
from rsd_jax.tasks.prompts import QUICKSTART_PROMPTS, save_prompts
from rsd_jax.types import Params

STAGES = ("tokenizer", "target", "draft_warm_start", "draft", "export")


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """Stages that read each other's results from one work directory.

    Attributes:
      config: vocab_size, corpus_root, mixture, number_words, tokenizer_documents, and per
        training stage `model` (fields of `LlamaConfig`) and `recipe` (fields of `Recipe`); see
        configs/train/quickstart.py.
      workdir: corpus/ and tokenizer/ of the tokenizer stage, one directory per training stage.
      export_dir: receives target/, draft/ and, from the `prompts` stage, the files of prompts.
      mesh: what is trained and measured on, see `train`; None for one device.
    """

    config: Mapping[str, Any]
    workdir: pathlib.Path
    export_dir: pathlib.Path
    mesh: jax.sharding.Mesh | None = None

    @property
    def layout(self) -> MeshLayout | None:
        """Of the mesh, if there is one."""
        return None if self.mesh is None else MeshLayout.of(self.mesh)

    def run(self, stage: str) -> None:
        """Runs one stage; a training stage that is finished returns at once.

        Raises:
          ConfigError: the stage is unknown, or one that it needs has not run.
          NonFiniteLossError: see `train`.
        """
        if stage == "tokenizer":
            self.prepare_text()
        elif stage == "prompts":
            self.write_prompts()
        elif stage == "export":
            self.export()
        elif stage in STAGES:
            self.train_stage(stage)
        else:
            raise ConfigError(f"stage={stage!r} must be one of {(*STAGES, 'prompts')}")

    def _files(self) -> list[corpus.SourceFile]:
        return corpus.read_files(self.config["corpus_root"] or None)

    def prepare_text(self) -> None:
        """Learns the tokenizer on training text of every source and writes both splits as tokens.

        Raises:
          ConfigError: the mixture names no source, or one that has no documents.
        """
        files = self._files()
        tasks = documents.task_documents(files, self.config["mixture"], self.config["number_words"])
        trained = bpe.train_tokenizer(
            documents.tokenizer_texts(files, tasks, self.config["tokenizer_documents"]),
            vocab_size=self.config["vocab_size"],
        )
        length = self.config["target"]["model"]["max_positions"]
        bpe.save_tokenizer(trained, self.workdir / "tokenizer", max_length=length)
        documents.write_sources(files, tasks, trained, self.workdir / "corpus")

    def write_prompts(self, count: int = 48, per_file: int = 5) -> None:
        """Cuts prompts from this machine's held-out files into `export_dir`.

        prompts.jsonl gets `count` passages for completion, docstrings.jsonl the functions.
        """
        tokenizer = bpe.load_tokenizer(self.workdir / "tokenizer")
        files = self._files()
        prompts = passages.cut_prompts(files, tokenizer, count=count, per_file=per_file)
        save_prompts(prompts, self.export_dir / QUICKSTART_PROMPTS.name)
        held_out = functions.docstring_examples(files)["heldout"]
        described = functions.cut_docstring_prompts(held_out)
        save_prompts(described, self.export_dir / DOCSTRING_PROMPTS.name)

    def text(self, split: str) -> Mixture:
        """A split of the text that every stage trains on."""
        return documents.open_mixture(self.workdir / "corpus", self.config["mixture"], split)

    def model(self, stage: str, dtype: str = "float32") -> LlamaModel:
        """The model that a stage trains."""
        config = LlamaConfig(
            bos_id=bpe.BOS_ID, eos_ids=(bpe.EOS_ID,), **self.config[stage]["model"]
        )
        return LlamaModel(config, dtype=dtype)

    def recipe(self, stage: str) -> Recipe:
        """The recipe of a stage."""
        return Recipe.from_mapping(self.config[stage]["recipe"])

    def params(self, stage: str) -> Params:
        """The f32 parameters in the newest checkpoint of a stage, whether it is finished or not.

        Raises:
          CheckpointError: there is none, or it does not fit the configuration.
        """
        like = abstract_state(self.model(stage), self.recipe(stage), self.layout)
        with contextlib.closing(Checkpoints(self.workdir / stage / "checkpoints")) as checkpoints:
            return checkpoints.restore(like)[1].params

    def train_stage(self, stage: str) -> None:
        """Trains one model, resuming if it was stopped."""
        recipe = self.recipe(stage)
        held_out = self.text("heldout").spread_windows(
            count=recipe.eval_windows, length=recipe.window
        )
        teacher = teacher_for_eval = None
        if stage != "target":
            params = self.params("target")
            teacher = (self.model("target", recipe.compute_dtype), params)
            teacher_for_eval = (self.model("target"), params)
        model = self.model(stage)
        train(
            self.model(stage, recipe.compute_dtype),
            recipe,
            self.text("train"),
            self.workdir / stage,
            init=(lambda: self.params("draft_warm_start")) if stage == "draft" else None,
            teacher=teacher if recipe.objective in LOSSES else None,
            evaluate=lambda params: evaluate(
                model, params, held_out, teacher=teacher_for_eval, layout=self.layout
            ),
            mesh=self.mesh,
        )

    def export(self) -> None:
        """Writes both models (bfloat16) and their tokenizer in Hugging Face's format.

        Takes the newest checkpoints as they are, evaluates the weights as rounded on as many
        windows of each source as its held-out text has, and leaves the result in
        `workdir`/export.json.
        """
        from rsd_jax.models.checkpoint import save_model

        rounded = {}
        for name in ("target", "draft"):
            directory = self.export_dir / name
            params = self.params(name)
            save_model(directory, self.model(name).config, params, dtype="bfloat16")
            for file in bpe.FILES:
                shutil.copy(self.workdir / "tokenizer" / file, directory / file)
            rounded[name] = jax.tree.map(
                lambda leaf: leaf.astype("bfloat16").astype("float32"), params
            )
        pair = self.model("target"), rounded["target"]
        measure = functools.partial(evaluate, layout=self.layout)
        length = self.recipe("target").window
        result = {}
        for source in self.text("heldout").sources:
            count = max(1, len(source.tokens) // length)
            windows = source.spread(count, length)
            summary = self.workdir / "corpus" / source.name / "corpus.json"
            size = json.loads(summary.read_text())["heldout"]
            result[source.name] = {
                "windows": count,
                "target": measure(*pair, windows),
                "draft": measure(self.model("draft"), rounded["draft"], windows, teacher=pair),
                "bytes_per_token": size["bytes"] / size["tokens"],
            }
        (self.workdir / "export.json").write_text(json.dumps(result, indent=2) + "\n")
