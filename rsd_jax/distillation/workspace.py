"""The files of a work directory, by which stages pass on their results."""

import contextlib
import dataclasses
import functools
import pathlib

import jax
from tokenizers import Tokenizer

from rsd_jax.core.sharding import MeshLayout
from rsd_jax.core.types import LoadedModel, Params
from rsd_jax.distillation.data import corpus, documents
from rsd_jax.distillation.data import tokenizer as bpe
from rsd_jax.distillation.data.mixture import Mixture
from rsd_jax.distillation.responses.reading import open_responses
from rsd_jax.distillation.responses.source import ResponseSource
from rsd_jax.distillation.settings import Settings, TrainingSettings
from rsd_jax.distillation.training.checkpoints import Checkpoints
from rsd_jax.distillation.training.step import abstract_state
from rsd_jax.errors import ConfigError
from rsd_jax.models.checkpoint import read_config
from rsd_jax.models.family import Network
from rsd_jax.models.loading import build_model, load_model

TARGET, WARM_START, DRAFT = "target", "draft_warm_start", "draft"
SKIPPING = "skipping"
"""The layer dropout stage: its section of a configuration, and the folder of the adapter."""


@dataclasses.dataclass(frozen=True)
class Workspace:
    """Settings, and the directories that the stages read and write.

    Attributes:
      settings: settings of all stages.
      root: the work directory: corpus/ and tokenizer/ of the text stage, responses/ of the generate
        stage, one directory per training run.
      export_dir: receives target/, draft/, skipping/ and, from the `prompts` stage, files of
        prompts.
      mesh: devices for training and measuring, see `train`; None for one device.
    """

    settings: Settings
    root: pathlib.Path
    export_dir: pathlib.Path
    mesh: jax.sharding.Mesh | None = None

    @property
    def layout(self) -> MeshLayout | None:
        """The layout of the mesh, if there is one."""
        return None if self.mesh is None else MeshLayout.of(self.mesh)

    @property
    def target_directory(self) -> pathlib.Path | None:
        """Directory of a target that was trained elsewhere; None if a stage trains the target."""
        given = self.settings.target_directory
        return pathlib.Path(given) if given else None

    @property
    def tokenizer_directory(self) -> pathlib.Path:
        """Directory of the tokenizer of all models."""
        return self.target_directory or self.root / "tokenizer"

    def tokenizer(self) -> Tokenizer:
        """The tokenizer of all models.

        Raises:
          ConfigError: there is no tokenizer yet.
        """
        return bpe.load_tokenizer(self.tokenizer_directory)

    def library(self) -> list[corpus.SourceFile]:
        """The library's files, from which training text and prompts are cut."""
        return corpus.read_files(self.settings.corpus_root or None)

    def text(self, split: str) -> Mixture:
        """A split of the text that models are trained on."""
        return documents.open_mixture(self.root / "corpus", self.settings.mixture, split)

    @functools.cached_property
    def ends(self) -> tuple[int | None, tuple[int, ...]]:
        """The target's ids that open and end a document."""
        if self.target_directory is None:
            return bpe.BOS_ID, (bpe.EOS_ID,)
        config = read_config(self.target_directory)
        return config.bos_id, config.eos_ids

    def model(self, stage: str, dtype: str | None = None) -> Network:
        """The model of a stage; by default in f32, or for a given target in `target_dtype`."""
        if stage == TARGET and self.target_directory is not None:
            config, own = read_config(self.target_directory), self.settings.target_dtype
        else:
            bos_id, eos_ids = self.ends
            shape = self.settings.section(stage).model
            config, own = dataclasses.replace(shape, bos_id=bos_id, eos_ids=eos_ids), "float32"
        return build_model(config, dtype=dtype or own, layout=self.layout)

    def recipe(self, stage: str) -> TrainingSettings:
        """The recipe of a stage."""
        return self.settings.section(stage).recipe

    def params(self, stage: str, run: str | None = None) -> Params:
        """The f32 parameters in the newest checkpoint of a stage, whether it is finished or not.

        Args:
          stage: gives model and optimiser.
          run: directory of the checkpoints; by default the name of the stage.

        Raises:
          CheckpointError: there is no checkpoint, or it does not fit the configuration.
        """
        like = abstract_state(self.model(stage), self.recipe(stage), self.layout)
        directory = self.root / (run or stage) / "checkpoints"
        with contextlib.closing(Checkpoints(directory)) as checkpoints:
            return checkpoints.restore(like)[1].params

    def loaded(self, stage: str, run: str | None = None) -> LoadedModel:
        """Model and parameters of a stage, in f32.

        A target that was trained elsewhere is in the configuration's `target_dtype`.

        Raises:
          CheckpointError: see `params`, `load_model`.
        """
        if stage == TARGET and self.target_directory is not None:
            dtype = self.settings.target_dtype
            return load_model(self.target_directory, dtype=dtype, mesh=self.mesh)
        return LoadedModel(self.model(stage), self.params(stage, run), self.layout)

    @functools.cached_property
    def target(self) -> LoadedModel:
        """The loaded target, read only once, as it is large."""
        return self.loaded(TARGET)

    def responses(self, *, weight: float = 1.0, top: bool = False) -> ResponseSource:
        """The responses of the generate stage.

        Raises:
          ConfigError: the stage has not run or ran with another tokenizer; or `top` asks for log
            probabilities, and none are stored.
        """
        directory = self.root / "responses"
        if not directory.is_dir():
            raise ConfigError(f"{directory} does not exist; run the generate stage first")
        return open_responses(
            directory,
            weight=weight,
            models={"draft": self.model(DRAFT)},
            tokenizer=self.tokenizer(),
            top=top,
        )
