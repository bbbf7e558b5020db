"""The settings of a work directory: a configuration, read once and checked.

The keys of a configuration are the fields of `Settings`; see configs/distill/quickstart.py.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from rsd_jax.distillation.data.corpus import HELD_OUT_PER_MILLE
from rsd_jax.distillation.data.training_prompts import PLAIN_PROMPT
from rsd_jax.distillation.layer_dropout_student import check_rows
from rsd_jax.distillation.losses import LOSSES
from rsd_jax.distillation.target_vocabulary import with_target_vocabulary
from rsd_jax.engine.methods import Method, build_method
from rsd_jax.engine.request import Sampling, SharedSampling
from rsd_jax.errors import ConfigError, is_integer, is_number, positive_integer
from rsd_jax.models.config import LlamaConfig
from rsd_jax.records.json_objects import build
from rsd_jax.text.chat import CHAT_DATE, ChatOptions

_CHOICES = {
    "objective": ("cross_entropy", *LOSSES),
    "optimizer": ("adamw", "muon"),
    "compute_dtype": ("float32", "bfloat16"),
    "schedule": ("cosine", "wsd"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """One training run; configurations call it a recipe.

    Attributes:
      objective: "cross_entropy" on the text, or one of `LOSSES` to a frozen target.
      loss_temperature: temperature of both laws in `LOSSES`; "cross_entropy" is always at 1.
      steps: optimiser steps; also the horizon of the learning rate's schedule.
      batch_size: windows per step.
      window: tokens per window.
      optimizer: "adamw", or "muon" for the matrices inside the layers and AdamW for the rest.
      learning_rate: peak, reached after `warmup_steps`; falls to `final_fraction` of the peak.
      schedule: how the rate falls: "cosine" from the peak to the last step, or "wsd" (Hu et al.
        2024), constant and then linear over the last `decay_fraction` of the steps. A resumed run
        under "wsd" may get more or fewer steps as long as the decay has not begun.
      beta1, beta2, weight_decay: of AdamW; Muon has the same decay; only matrices decay.
      clip_norm: bound on the gradient's global norm.
      compute_dtype: "float32" or "bfloat16" for the passes; parameters and optimiser state
        are float32 either way.
      accumulate: parts of a batch that a step computes one after the other, to save memory; the
        result is the same as for the whole batch.
      remat: whether the backward pass computes each layer again, to save memory.
      seed: of the initial parameters and of the data order.
      log_every, checkpoint_every, keep: steps between log rows (at which losses are read from
        the device) and between checkpoints; how many checkpoints stay.
      eval_windows, eval_batch_size: held-out windows per evaluation, at each checkpoint, and how
        many of them are scored at once; target and draft have f32 logits of these at one time.
    """

    objective: str = "cross_entropy"
    loss_temperature: float = 1.0
    steps: int
    batch_size: int = 8
    window: int = 256
    optimizer: str = "adamw"
    learning_rate: float = 2e-3
    warmup_steps: int = 100
    schedule: str = "cosine"
    decay_fraction: float = 0.25
    final_fraction: float = 0.05
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    compute_dtype: str = "float32"
    accumulate: int = 1
    remat: bool = False
    seed: int = 0
    log_every: int = 10
    checkpoint_every: int = 100
    keep: int = 2
    eval_windows: int = 64
    eval_batch_size: int = 8

    def __post_init__(self):
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ConfigError(f"{name}={getattr(self, name)!r} must be one of {choices}")
        for name in ("steps", "batch_size", "window", "log_every", "checkpoint_every", "keep"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} must be at least 1")
        if not (is_number(self.loss_temperature) and 0.0 < self.loss_temperature < math.inf):
            raise ConfigError(
                f"loss_temperature={self.loss_temperature!r} must be positive and finite; the "
                "losses are not defined at temperature 0"
            )
        positive_integer("accumulate", self.accumulate)
        positive_integer("eval_batch_size", self.eval_batch_size)
        if self.batch_size % self.accumulate:
            raise ConfigError(
                f"batch_size={self.batch_size} must be a multiple of accumulate={self.accumulate}"
            )

    @property
    def tokens_per_step(self) -> int:
        """Labels in the windows of a step, masked labels included."""
        return self.batch_size * self.window


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResponseSettings(SharedSampling):
    """One set of responses.

    Attributes:
      max_new_tokens, top_k, top_p, eos_ids: of a response, see `Sampling`.
      temperatures: every prompt is answered once for each entry, also for repeated entries.
      seed: a response is a function of seed, request id and prompt.
      batch_size: rows decoded together.
      prompts_per_shard: an interrupted run repeats at most this many prompts.
      top_logprobs: K, how many of the target's log probabilities are stored for each response
        token, from a separate pass; 0 for none.

    Raises:
      ConfigError: a value is out of range.
    """

    temperatures: tuple[float, ...] = (1.0,)
    eos_ids: tuple[int, ...] = ()
    seed: int = 0
    batch_size: int = 16
    prompts_per_shard: int = 256
    top_logprobs: int = 0

    def __post_init__(self):
        super().__post_init__()
        for name in ("batch_size", "prompts_per_shard"):
            positive_integer(name, getattr(self, name))
        if not is_integer(self.top_logprobs) or self.top_logprobs < 0:
            raise ConfigError(f"top_logprobs={self.top_logprobs!r} must be an integer of 0 or more")
        if not self.temperatures:
            raise ConfigError("temperatures is empty; give at least one")
        self.samplings()

    def samplings(self) -> list[Sampling]:
        """How a response is drawn, by temperature."""
        return [self.at(t, seed=self.seed, eos_ids=self.eos_ids) for t in self.temperatures]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SelfPrompts(ResponseSettings):
    """Prompts that the target writes itself, as the user of a chat.

    Attributes:
      count: how many messages of the user are sampled at each of the `temperatures`; those that
        repeat another, or that `max_new_tokens` cut off, are left out.
      eos_ids, top_logprobs: not set: the chat template says what ends a message. The system message
        and the template's options are those of `prompt_files`.

    Raises:
      ConfigError: a value is out of range.

    Source: Xu et al. 2024 (Magpie, arXiv 2406.08464).
    """

    count: int

    def __post_init__(self):
        super().__post_init__()
        positive_integer("count", self.count)
        if self.eos_ids or self.top_logprobs:
            raise ConfigError("self_prompts: leave out eos_ids and top_logprobs")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FollowUps(ResponseSettings):
    """Answers to longer prompts, which are made from the first answers, see `follow_ups`.

    Attributes:
      count: how many prompts.
      max_prompt_tokens: longer prompts are left out.

    Raises:
      ConfigError: a value is out of range.
    """

    count: int
    max_prompt_tokens: int

    def __post_init__(self):
        super().__post_init__()
        positive_integer("count", self.count)
        positive_integer("max_prompt_tokens", self.max_prompt_tokens)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnPolicy(SharedSampling):
    """How much of a batch the draft writes, and how.

    Attributes:
      fraction: the probability that the draft writes a window, in [0, 1].
      max_new_tokens, temperature, top_k, top_p, eos_ids: of a continuation, see `Sampling`.

    Raises:
      ConfigError: a value is out of range.
    """

    fraction: float
    temperature: float = 1.0
    eos_ids: tuple[int, ...] = ()

    def __post_init__(self):
        super().__post_init__()
        if not is_number(self.fraction) or not 0 <= self.fraction <= 1:
            raise ConfigError(f"fraction={self.fraction!r} must lie in [0, 1]")
        self.sampling(0)

    def sampling(self, seed: int) -> Sampling:
        """How the draft goes on with a prompt."""
        return self.at(self.temperature, seed=seed, eos_ids=self.eos_ids)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextFiles:
    """The user's own text, see `text_files.read_documents`; none without patterns."""

    patterns: tuple[str, ...] = ()
    field: str = "text"
    held_out_per_mille: int = HELD_OUT_PER_MILLE


@dataclasses.dataclass(frozen=True, kw_only=True)
class PromptFiles:
    """The user's own prompts, see `training_prompts.prompts_from_files`.

    Attributes:
      patterns, field, template, limit, system, parse_special: as there.
      chat_template_kwargs, chat_date: options for the tokenizer's chat template, see `ChatOptions`.

    Raises:
      ConfigError: `chat_date` is not a date.
    """

    patterns: tuple[str, ...] = ()
    field: str = "prompt"
    template: str = PLAIN_PROMPT
    limit: int | None = None
    system: str | None = None
    parse_special: bool = False
    chat_template_kwargs: dict[str, Any] = dataclasses.field(default_factory=dict)
    chat_date: str = CHAT_DATE

    def __post_init__(self):
        _ = self.chat

    @property
    def chat(self) -> ChatOptions:
        """Options for the tokenizer's chat template."""
        return ChatOptions(kwargs=self.chat_template_kwargs, date=self.chat_date)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """A model and how it is trained.

    Attributes:
      model: shape of the model; the ids that open and end a document come from the target.
      recipe: settings of the training run.
    """

    model: LlamaConfig
    recipe: TrainingSettings


@dataclasses.dataclass(frozen=True, kw_only=True)
class DraftSettings(ModelSettings):
    """The draft's last training run.

    Attributes:
      data: shares of windows from "responses" and from "text".
      stored_logits: whether the target's law is read from the responses' files; otherwise the
        target scores the windows.
      on_policy: windows that the draft writes during training.
      table_from_target: whether the draft's table of tokens starts as the target's, see
        `table_start`; not with a warm start.

    Raises:
      ConfigError: `stored_logits` is set, but not all windows are from responses.
    """

    data: dict[str, float]
    stored_logits: bool
    on_policy: OnPolicy | None = None
    table_from_target: bool = False

    def __post_init__(self):
        if self.stored_logits and (self.data.get("text") or self.draft_writes):
            raise ConfigError(
                "stored_logits needs windows from responses only: set draft.data.text and "
                "draft.on_policy.fraction to 0, or stored_logits to False"
            )

    @property
    def draft_writes(self) -> bool:
        """Whether the draft writes any windows."""
        return self.on_policy is not None and self.on_policy.fraction > 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerDropoutSettings:
    """The adapter of a target that drafts for itself; the section is called `skipping`.

    Attributes:
      rank, fewest, most: see `LayerDropoutStudent`.
      mixture: share of each source of text; empty for the responses of the target.
      recipe: settings of the training run.

    Raises:
      ConfigError: weight decay would change the target; or a part of a batch has too few rows.
    """

    rank: int
    fewest: int
    most: int
    mixture: dict[str, float]
    recipe: TrainingSettings

    def __post_init__(self):
        if self.recipe.weight_decay:
            raise ConfigError(
                f"recipe.weight_decay={self.recipe.weight_decay} would change the target, which "
                "is among the parameters; set it to 0"
            )
        check_rows(self.recipe.batch_size // self.recipe.accumulate)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecodeSettings:
    """The `decode` stage, which measures the draft.

    Attributes:
      methods: options of `build_method`, by their names in the rows.
      prompts: how many test prompts, by task.
      prompt_files: the user's own prompts, as a task called "files".
      self_prompts: how many held-out prompts of the target, as a task of this name.
      scored: how many greedy answers of the target are scored, by task.
      max_new_tokens, temperature, seed: see `Sampling`.
      batch_size: rows decoded together.

    Raises:
      ConfigError: a value is out of range, or there is no such method.
    """

    methods: dict[str, dict[str, Any]]
    prompts: dict[str, int]
    prompt_files: PromptFiles
    scored: dict[str, int]
    max_new_tokens: int
    temperature: float
    batch_size: int
    seed: int
    self_prompts: int = 0

    def __post_init__(self):
        positive_integer("batch_size", self.batch_size)
        self.sampling(())
        self.built_methods()

    def sampling(self, eos_ids: tuple[int, ...]) -> Sampling:
        """How a target with these end tokens samples."""
        return Sampling(
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            seed=self.seed,
            eos_ids=eos_ids,
        )

    def built_methods(self) -> dict[str, Method]:
        """The methods by their names in the rows."""
        return {name: _method(f"methods.{name}", given) for name, given in self.methods.items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossesSettings:
    """Objectives of the drafts that are compared; all other settings come from `draft`."""

    objectives: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """A whole configuration; `section` gives the fields that only some configurations have.

    Attributes:
      workdir: default of the work directory.
      target_directory: a trained target, as `path` of `load_model`: a directory with its tokenizer,
        a GGUF file or a name on the Hub; "" to train the target here.
      tokenizer: that of a trained target, as `path` of `load_tokenizer`; "" for the one in the
        target's folder or file.
      target_dtype: dtype in memory of a trained target.
      corpus_root: folder of the library's files; "": the running interpreter's standard library.
      mixture: share of each source in the windows of a batch; 0 leaves a source out.
      number_words: how many examples to write, by split.
      files: the source `files`.
      vocab_size, tokenizer_documents: size of the trained tokenizer, and how many documents of
        each task it is trained on; None where the target has its own tokenizer.
      target, draft_warm_start, draft, skipping, decode, losses: the stages of these names; without
        `draft_warm_start` the draft starts from random parameters.
      prompts: how many training prompts the target answers, by source.
      prompt_files: the user's own prompts, in addition.
      self_prompts: prompts that the target writes, in addition; None for none.
      template_prompts: how many messages that are filled into templates, see `template_prompts`, in
        addition; None for none.
      max_prompt_tokens: longer prompts are left out.
      frequent_tokens: how many ids the draft has, for the tokens that are the most frequent in the
        responses and one id for all others; None for the target's vocabulary.
      method: options of `build_method`: how the target answers.
      responses: how answers are drawn and stored; without `eos_ids` the target's ids end them.
      follow_ups: answers to longer prompts, in addition; None for none.

    Raises:
      ConfigError: there is no such method, or a tokenizer is named for a target that is trained.
    """

    workdir: str = ""
    target_directory: str = ""
    tokenizer: str = ""
    target_dtype: str = "float32"
    corpus_root: str = ""
    mixture: dict[str, float] = dataclasses.field(default_factory=dict)
    number_words: dict[str, int] = dataclasses.field(default_factory=dict)
    files: TextFiles = TextFiles()
    vocab_size: int | None = None
    tokenizer_documents: int | None = None
    target: ModelSettings | None = None
    draft_warm_start: ModelSettings | None = None
    draft: DraftSettings | None = None
    skipping: LayerDropoutSettings | None = None
    prompts: dict[str, int] = dataclasses.field(default_factory=dict)
    prompt_files: PromptFiles = dataclasses.field(default_factory=PromptFiles)
    self_prompts: SelfPrompts | None = None
    template_prompts: int | None = None
    max_prompt_tokens: int | None = None
    frequent_tokens: int | None = None
    method: dict[str, Any] = dataclasses.field(default_factory=lambda: {"name": "ar"})
    responses: ResponseSettings | None = None
    follow_ups: FollowUps | None = None
    decode: DecodeSettings | None = None
    losses: LossesSettings | None = None

    def __post_init__(self):
        self.built_method()
        self._check_frequent_tokens()
        own_table = self.draft is not None and self.draft.table_from_target
        if own_table and self.draft_warm_start is not None:
            raise ConfigError(
                "draft.table_from_target would replace what draft_warm_start has learned: leave "
                "out one of the two"
            )
        if self.tokenizer and not self.target_directory:
            raise ConfigError(
                f"tokenizer={self.tokenizer!r} is for a trained target: set target_directory, or "
                "leave it out, and the text stage trains a tokenizer"
            )

    def _check_frequent_tokens(self) -> None:
        if self.frequent_tokens is None:
            return
        if not is_integer(self.frequent_tokens) or self.frequent_tokens < 2:
            raise ConfigError(f"frequent_tokens={self.frequent_tokens!r} must be 2 or more")
        stored = self.draft is None or self.draft.stored_logits
        if self.draft_warm_start is not None or not stored:
            raise ConfigError(
                "frequent_tokens needs a draft that learns from stored responses only: set "
                "draft.stored_logits to True, and leave out draft_warm_start"
            )

    @classmethod
    def from_config(cls, config: Any) -> "Settings":
        """Reads a mapping, or an `ml_collections.ConfigDict`.

        Raises:
          ConfigError: a key is unknown, missing or malformed; the key is named.
        """
        values: Mapping[str, Any] = config.to_dict() if hasattr(config, "to_dict") else config
        draft = values.get("draft")
        sections: dict[str, Any] = {
            "responses": values.get("responses"),
            "follow_ups": values.get("follow_ups"),
            "draft.on_policy": draft.get("on_policy") if isinstance(draft, Mapping) else None,
        }
        for name, section in sections.items():
            # Without the key the target's ids end an answer; an empty value would mean the same.
            given = isinstance(section, Mapping) and "eos_ids" in section
            if given and not section["eos_ids"]:
                raise ConfigError(
                    f"{name}.eos_ids is empty; name ids, or leave the key out for the target's own"
                )
        settings: Settings = build(cls, with_target_vocabulary(values))
        return settings

    def section(self, name: str) -> Any:
        """A field that a stage needs.

        Raises:
          ConfigError: the configuration lacks the field.
        """
        value = getattr(self, name)
        if value is None:
            raise ConfigError(
                f"the configuration has no `{name}`; see configs/distill/quickstart.py"
            )
        return value

    def built_method(self) -> Method:
        """How the target answers prompts."""
        return _method("method", self.method)


def _method(key: str, options: Mapping[str, Any]) -> Method:
    """Calls `build_method`; errors name the key."""
    try:
        return build_method(**options)
    except (ConfigError, TypeError) as error:
        raise ConfigError(f"{key}: {error}") from None
