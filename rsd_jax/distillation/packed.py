"""A draft's training in one folder, for a machine that has neither target nor configuration.

    training.json              the recipe, and whether responses are held out
    start/                     the draft before its first step, float32, in Hugging Face's format
    responses/, follow_ups/    the target's responses with its log probabilities, and
    token_map.json             the tokens that the draft knows, all as in a work directory

The accelerator that trains a draft is at hand for minutes, and often lacks the libraries that read
the target, its tokenizer or the configuration.
"""

import dataclasses
import functools
import pathlib
import shutil
from collections.abc import Sequence
from typing import Any

from rsd_jax.core.types import Params
from rsd_jax.distillation.responses.manifest import MANIFEST
from rsd_jax.distillation.responses.reading import open_split
from rsd_jax.distillation.responses.source import ResponseSource
from rsd_jax.distillation.settings import TrainingSettings
from rsd_jax.errors import CheckpointError, ConfigError
from rsd_jax.models.checkpoint import load_params, read_config, save_model
from rsd_jax.models.family import ModelConfig, Network
from rsd_jax.models.loading import build_model
from rsd_jax.models.token_map import TokenMap, read_token_map
from rsd_jax.models.weight_files import files_sha256, read_json
from rsd_jax.records.complete_files import write_json
from rsd_jax.records.json_objects import build, json_sha256

_VERSION = 1
_TRAINING, _START = "training.json", "start"


@dataclasses.dataclass(frozen=True)
class PackedDraft:
    """A folder of `write_packed`.

    Attributes:
      folder: the folder.
      name: name of the work directory that the draft comes from.
      recipe: settings of the training run.
      sha256: of training.json, which holds the hash of the start and the responses' settings.
      responses: names of the folders with responses.
      holds_out: whether the responses to held-out prompts are kept for measuring.
    """

    folder: pathlib.Path
    name: str
    recipe: TrainingSettings
    sha256: str
    responses: tuple[str, ...]
    holds_out: bool

    def model(self, dtype: str = "float32") -> Network:
        """The draft with passes in `dtype`, in its own ids; errors as `read_config`."""
        return build_model(self._config, dtype=dtype)

    def start(self) -> Params:
        """The f32 parameters before the first step; errors as `load_params`."""
        return load_params(self.folder / _START, self._config, dtype="float32")

    @functools.cached_property
    def _config(self) -> ModelConfig:
        config: ModelConfig = read_config(self.folder / _START)
        return config

    def train(self) -> ResponseSource:
        """The windows to train on; errors as `open_split`."""
        return self._windows(held_out=False if self.holds_out else None)

    def held_out(self) -> ResponseSource | None:
        """The held-out windows, if there are any; errors as `open_split`."""
        return self._windows(held_out=True) if self.holds_out else None

    def _windows(self, held_out: bool | None) -> ResponseSource:
        source = open_split([self.folder / name for name in self.responses], held_out, top=True)
        known = read_token_map(self.folder, self._config.vocab_size)
        return source if known is None else source.with_ids(known.draft_ids)


def write_packed(
    folder: pathlib.Path,
    recipe: TrainingSettings,
    config: ModelConfig,
    start: Params,
    responses: Sequence[pathlib.Path],
    *,
    token_map: TokenMap | None,
    holds_out: bool,
) -> None:
    """Writes a folder for `read_packed`; one that is there is replaced.

    Args:
      folder: receives the files; named after the draft.
      recipe: settings of the training run.
      config: of the draft.
      start: the draft's f32 parameters before the first step.
      responses: folders of `generate_responses`, with stored log probabilities.
      token_map: the tokens that the draft knows; None for all.
      holds_out: whether the responses to held-out prompts, by their names, are kept for measuring.
    """
    shutil.rmtree(folder, ignore_errors=True)
    save_model(folder / _START, config, start, dtype="float32")
    for source in responses:
        shutil.copytree(source, folder / source.name)
    if token_map is not None:
        token_map.save(folder)
    write_json(
        folder / _TRAINING,
        {
            "version": _VERSION,
            "name": folder.resolve().parent.name,
            "recipe": dataclasses.asdict(recipe),
            "responses": [source.name for source in responses],
            "holds_out": holds_out,
            "start_sha256": files_sha256(folder / _START),
            "manifests": [read_json(source / MANIFEST) for source in responses],
        },
    )


def read_packed(folder: pathlib.Path) -> PackedDraft:
    """Reads what `write_packed` left, but no weights and no responses yet.

    Raises:
      CheckpointError: `folder` holds no packed draft, one of another version, or a damaged one.
    """
    path = folder / _TRAINING
    if not path.is_file():
        raise CheckpointError(
            f"{folder} holds no {_TRAINING}; make the folder with `rsd distill --stage=pack`"
        )
    values: dict[str, Any] = read_json(path)
    if values.get("version") != _VERSION:
        raise CheckpointError(
            f"{path} has version {values.get('version')!r}; this code reads {_VERSION}: pack the "
            "draft again"
        )
    try:
        return PackedDraft(
            folder,
            str(values["name"]),
            build(TrainingSettings, values["recipe"]),
            json_sha256(values),
            tuple(values["responses"]),
            bool(values["holds_out"]),
        )
    except (ConfigError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); pack the draft again") from None
