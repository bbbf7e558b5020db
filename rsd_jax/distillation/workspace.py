"""The files of a work directory, by which stages pass on their results."""

import contextlib
import dataclasses
import functools
import pathlib
import warnings
from typing import Any

import jax
from tokenizers import Tokenizer

from rsd_jax.core.sharding import MeshLayout
from rsd_jax.core.types import LoadedModel, Params
from rsd_jax.distillation.data import corpus, documents
from rsd_jax.distillation.data import tokenizer as bpe
from rsd_jax.distillation.data.mixture import Mixture
from rsd_jax.distillation.data.training_prompts import PLAIN_PROMPT, prompts_from_files
from rsd_jax.distillation.responses.reading import open_split
from rsd_jax.distillation.responses.self_prompts import read_self_prompts
from rsd_jax.distillation.responses.source import ResponseSource
from rsd_jax.distillation.settings import PromptFiles, Settings, TrainingSettings
from rsd_jax.distillation.training.checkpoints import Checkpoints
from rsd_jax.distillation.training.step import abstract_state
from rsd_jax.errors import CheckpointError, ConfigError
from rsd_jax.evaluation.empty_answers import EmptyAnswers
from rsd_jax.models.checkpoint import read_config
from rsd_jax.models.ends import end_ids
from rsd_jax.models.family import Network
from rsd_jax.models.hub import local_path
from rsd_jax.models.loading import build_model, load_model, load_tokenizer, tokenizer_path
from rsd_jax.models.token_map import TOKEN_MAP, TokenMap, on_mapped_tokens, read_token_map
from rsd_jax.tasks.templates import CHAT
from rsd_jax.text.chat import USER, Message, has_template
from rsd_jax.text.prompts import prompt_ids

TARGET, WARM_START, DRAFT = "target", "draft_warm_start", "draft"
VOCABULARY = "vocabulary"
"""The stage that chooses the tokens which the draft knows."""
HELD_OUT = "heldout"
"""The split that no model is trained on."""
SELF_PROMPTS = "self_prompts"
"""The stage in which the target writes prompts: its section, and the folder of the messages."""
RESPONSES = "responses"
"""The folder of the `generate` stage."""
FOLLOW_UPS = "follow_ups"
"""The stage that answers longer prompts: its section, and the folder of its responses."""
PACKED = "packed"
"""The folder of the `pack` stage."""
SKIPPING = "skipping"
"""The layer dropout stage: its section of a configuration, and the folder of the adapter."""


@dataclasses.dataclass(frozen=True)
class Workspace:
    """Settings, and the directories that the stages read and write.

    Attributes:
      settings: settings of all stages.
      root: the work directory: corpus/ and tokenizer/ of the text stage, self_prompts/, responses/
        and follow_ups/ of the stages that generate, one directory per training run.
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
        """Directory or GGUF file of a trained target; None if a stage trains the target.

        Raises:
          CheckpointError: the target is named as on the Hub, which does not give it.
        """
        given = self.settings.target_directory
        return local_path(given) if given else None

    @property
    def tokenizer_directory(self) -> pathlib.Path:
        """Directory or GGUF file of the tokenizer of all models; errors as `target_directory`."""
        if given := self.settings.tokenizer:
            return tokenizer_path(given)
        return self.target_directory or self.root / "tokenizer"

    def tokenizer(self) -> Tokenizer:
        """The tokenizer of all models.

        Raises:
          ConfigError: there is no tokenizer yet.
        """
        return bpe.load_tokenizer(self.tokenizer_directory)

    @functools.cached_property
    def chat_tokenizer(self) -> Any:
        """The tokenizer as a tokenizer of transformers, which knows its chat template.

        Raises:
          CheckpointError: the directory holds none that transformers can read.
        """
        return load_tokenizer(self.tokenizer_directory)

    @functools.cached_property
    def token_map(self) -> TokenMap | None:
        """The tokens that the draft knows; None if the draft has the target's vocabulary.

        Raises:
          ConfigError: the vocabulary stage has not run.
        """
        size = self.settings.frequent_tokens
        if size is None:
            return None
        found = read_token_map(self.root, size)
        if found is None:
            raise ConfigError(
                f"{self.root / TOKEN_MAP} does not exist; run the stage {VOCABULARY!r} first"
            )
        return found

    def own_prompts(self, files: PromptFiles) -> dict[str, list[int]]:
        """The encoded prompts of a user's files, by name.

        Warns if the files' template gives other tokens than the tokenizer's own chat template.

        Raises:
          ConfigError: see `prompts_from_files`.
        """
        chat = files.template == CHAT
        prompts = prompts_from_files(
            files.patterns,
            self.chat_tokenizer if chat else self.tokenizer(),
            field=files.field,
            max_tokens=self.settings.section("max_prompt_tokens"),
            limit=files.limit,
            template=files.template,
            system=files.system,
            parse_special=files.parse_special,
            chat=files.chat,
        )
        if not chat and files.template != PLAIN_PROMPT:
            self._warn_of_other_template(files)
        return prompts

    def prompts_of_target(self) -> dict[str, list[int]]:
        """The encoded prompts of the self_prompts stage, by name.

        Raises:
          ConfigError, CheckpointError: see `read_self_prompts`.
        """
        return read_self_prompts(
            self.root / SELF_PROMPTS,
            self.chat_tokenizer,
            max_tokens=self.settings.section("max_prompt_tokens"),
            system=self.settings.prompt_files.system,
            chat=self.settings.prompt_files.chat,
        )

    def _warn_of_other_template(self, files: PromptFiles) -> None:
        """Warns if the text around a prompt is not that of the tokenizer's own chat template."""
        tokenizer = self._any_tokenizer()
        if not has_template(tokenizer):
            return
        asked, text = (Message(USER, "a"),), files.template.replace(PLAIN_PROMPT, "a")
        try:
            own = prompt_ids(tokenizer, asked, chat=files.chat)
        except ConfigError:
            return  # a chat template that wants more than one message, which no text can equal
        if prompt_ids(tokenizer, text, parse_special=files.parse_special) != own:
            warnings.warn(
                f"template={files.template!r} gives other tokens than the chat template of the "
                f"tokenizer in {self.tokenizer_directory}; set template={CHAT!r} for the latter",
                stacklevel=3,
            )

    def _any_tokenizer(self) -> Any:
        """`chat_tokenizer`; without chat template if transformers cannot read the directory."""
        try:
            return self.chat_tokenizer
        except CheckpointError:
            return self.tokenizer()

    def warn_if_empty(self, files: PromptFiles, answers: int, tokens: int, limit: int) -> None:
        """Warns if the target's answers are all nothing but an end; see `EmptyAnswers.check`."""
        EmptyAnswers().check(
            "files",
            answers=answers,
            tokens=tokens,
            max_new_tokens=limit,
            template=files.template,
            tokenizer=self._any_tokenizer(),
        )

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
        return config.bos_id, end_ids(config, lambda: self.chat_tokenizer)

    def check_models(self) -> None:
        """Checks that the models have the target's vocabulary, and the draft its start's shape.

        Raises:
          ConfigError: a model has another vocabulary or shape; names the key of the configuration.
        """
        self._check_vocabularies()
        start, draft = self.settings.draft_warm_start, self.settings.draft
        if start is None or draft is None:
            return
        own, first = dataclasses.asdict(draft.model), dataclasses.asdict(start.model)
        other = [key for key in own if own[key] != first[key]]
        if other:
            shapes = ", ".join(
                f"{section}.model.{key}={shape[key]!r}"
                for key in other
                for section, shape in ((DRAFT, own), (WARM_START, first))
            )
            raise ConfigError(
                f"the draft goes on from its warm start and needs the same shape; got {shapes}"
            )

    def _check_vocabularies(self) -> None:
        sections = {name: getattr(self.settings, name) for name in (TARGET, DRAFT, WARM_START)}
        if self.target_directory is not None:
            whose, size = f"the target in {self.target_directory}", self.model(TARGET).vocab_size
        elif (own := sections.pop(TARGET)) is not None:
            whose, size = "the target", own.model.vocab_size
            learned = self.settings.vocab_size
            if learned is not None and learned > size:
                raise ConfigError(
                    f"the target has vocab_size={size}, the tokenizer gets vocab_size={learned}; "
                    f"set target.model.vocab_size to {learned}"
                )
        else:
            return
        for name in (DRAFT, WARM_START):
            section = sections[name]
            if name == DRAFT and (own := self.settings.frequent_tokens) is not None:
                whose, size = "frequent_tokens", own
            if section is not None and section.model.vocab_size != size:
                raise ConfigError(
                    f"{whose} has vocab_size={size}, the {name} has {section.model.vocab_size}; a "
                    f"draft is trained with its target's vocabulary: set {name}.model.vocab_size "
                    f"to {size}"
                )

    def model(self, stage: str, dtype: str | None = None) -> Network:
        """The model of a stage; by default in f32, or for a given target in `target_dtype`."""
        if stage == TARGET and self.target_directory is not None:
            config, own = read_config(self.target_directory), self.settings.target_dtype
        else:
            bos_id, eos_ids = self.ends
            if stage == DRAFT and self.token_map is not None:
                ids = self.token_map.draft_ids
                # BOS is only needed to open a text, and the draft learns from responses.
                bos_id, eos_ids = None, tuple(int(ids[end]) for end in eos_ids if ids[end] >= 0)
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
        """Model and parameters of a stage, in f32; a draft has the target's ids.

        A target that was trained elsewhere is in the configuration's `target_dtype`.

        Raises:
          CheckpointError: see `params`, `load_model`.
        """
        if stage == TARGET and self.target_directory is not None:
            dtype = self.settings.target_dtype
            return load_model(
                self.target_directory, dtype=dtype, compute_dtype=dtype, mesh=self.mesh
            )
        own = LoadedModel(self.model(stage), self.params(stage, run), self.layout)
        if stage == DRAFT and self.token_map is not None:
            return on_mapped_tokens(own, self.token_map.draft_ids)
        return own

    @functools.cached_property
    def target(self) -> LoadedModel:
        """The loaded target, read only once, as it is large."""
        return self.loaded(TARGET)

    def responses(
        self, *, weight: float = 1.0, top: bool = False, split: str | None = None
    ) -> ResponseSource:
        """The responses of the generate stage, in the draft's ids.

        Args:
          weight: in a mixture.
          top: whether to read the stored log probabilities.
          split: "train" or "heldout", which the prompts' names decide; None for all.

        Raises:
          ConfigError: the stage has not run or ran with another tokenizer; `top` asks for log
            probabilities, and none are stored; or the split is empty.
        """
        source = self.target_responses(weight=weight, top=top, split=split)
        return source if self.token_map is None else source.with_ids(self.token_map.draft_ids)

    def target_responses(
        self, *, weight: float = 1.0, top: bool = False, split: str | None = None
    ) -> ResponseSource:
        """As `responses`, in the target's ids."""
        own_ids = self.settings.draft is not None and not self.settings.frequent_tokens
        return open_split(
            self.response_folders(),
            None if split is None else split == HELD_OUT,
            weight=weight,
            models={DRAFT: self.model(DRAFT)} if own_ids else {},
            tokenizer=self.tokenizer(),
            top=top,
        )

    def response_folders(self) -> list[pathlib.Path]:
        """The folders of responses.

        Raises:
          ConfigError: a stage that writes one has not run.
        """
        stages = {RESPONSES: "generate"}
        if self.settings.follow_ups is not None:
            stages[FOLLOW_UPS] = FOLLOW_UPS
        for name, stage in stages.items():
            if not (self.root / name).is_dir():
                raise ConfigError(f"{self.root / name} does not exist; run the {stage} stage first")
        return [self.root / name for name in stages]
