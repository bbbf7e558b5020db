"""What one training run does: sizes, schedule, optimiser."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import optax
import optax.contrib

from rsd_jax.distillation.losses import LOSSES
from rsd_jax.errors import ConfigError, is_number, positive_integer

_CHOICES = {
    "objective": ("cross_entropy", *LOSSES),
    "optimizer": ("adamw", "muon"),
    "compute_dtype": ("float32", "bfloat16"),
    "schedule": ("cosine", "wsd"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """One training run.

    Attributes:
      objective: "cross_entropy" on the text, or one of `LOSSES` to a frozen target.
      loss_temperature: of the laws that one of `LOSSES` compares; "cross_entropy" is at 1.
      steps: optimiser steps; also the horizon of the learning rate's schedule.
      batch_size: windows per step.
      window: tokens per window.
      optimizer: "adamw", or "muon" for the matrices inside the layers and AdamW for the rest.
      learning_rate: peak, reached after `warmup_steps`, falling to `final_fraction` of it.
      schedule: how it falls: "cosine" from the peak to the last step, or "wsd" (Hu et al. 2024),
        constant and then linear over the last `decay_fraction` of the steps. A run under "wsd"
        may be given more or fewer steps when it is resumed, as long as the decay has not begun.
      beta1, beta2, weight_decay: of AdamW; the decay also Muon's, on matrices only.
      clip_norm: bound on the gradient's global norm.
      compute_dtype: "float32" or "bfloat16" for the passes; parameters and optimiser state
        are float32 either way.
      accumulate: parts that a batch is taken in, one after the other within a step; the result
        is that of the whole batch, in the memory of a part.
      remat: whether the backward pass computes each layer again, to save memory.
      seed: of the initial parameters and of the data order.
      log_every, checkpoint_every, keep: steps between log rows (at which losses are read from
        the device) and between checkpoints; how many checkpoints stay.
      eval_windows: held-out windows per evaluation, at each checkpoint.
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

    def __post_init__(self):
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ConfigError(f"{name}={getattr(self, name)!r} must be one of {choices}")
        for name in ("steps", "batch_size", "window", "log_every", "checkpoint_every", "keep"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} must be at least 1")
        if not (is_number(self.loss_temperature) and 0.0 < self.loss_temperature < math.inf):
            raise ConfigError(
                f"loss_temperature={self.loss_temperature!r} must be positive and finite; a loss "
                "needs laws, and at temperature 0 there is none"
            )
        positive_integer("accumulate", self.accumulate)
        if self.batch_size % self.accumulate:
            raise ConfigError(
                f"batch_size={self.batch_size} must be a multiple of accumulate={self.accumulate}"
            )

    @classmethod
    def from_mapping(cls, raw: Mapping[str, Any]) -> "Recipe":
        """Builds a recipe.

        Raises:
          ConfigError: a key is unknown, or `steps` is missing.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(raw) - known)
        if unknown:
            raise ConfigError(f"a training recipe has no {unknown[0]!r}; it has {sorted(known)}")
        if "steps" not in raw:
            raise ConfigError("a training recipe needs `steps`")
        return cls(**raw)

    @property
    def tokens_per_step(self) -> int:
        """Labels in the windows of a step, masked ones included."""
        return self.batch_size * self.window


def learning_rate(recipe: Recipe) -> optax.Schedule:
    """Linear warm-up, then the recipe's schedule down to `final_fraction` at the last step."""
    warmup = min(recipe.warmup_steps, recipe.steps - 1)
    if recipe.schedule == "wsd":
        peak, decay = recipe.learning_rate, round(recipe.decay_fraction * recipe.steps)
        return optax.join_schedules(
            [
                optax.linear_schedule(0.0, peak, warmup),
                optax.constant_schedule(peak),
                optax.linear_schedule(peak, peak * recipe.final_fraction, decay),
            ],
            [warmup, max(recipe.steps - decay, warmup)],
        )
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=recipe.learning_rate,
        warmup_steps=warmup,
        decay_steps=recipe.steps,
        end_value=recipe.learning_rate * recipe.final_fraction,
    )


def _kind(path: tuple, leaf: jax.Array) -> str:
    # Muon is for maps between hidden vectors; tokens' own vectors are not one.
    outer = {"embed_tokens", "lm_head"} & {getattr(key, "key", None) for key in path}
    return "muon" if leaf.ndim == 2 and not outer else "adamw"


def optimizer(recipe: Recipe) -> optax.GradientTransformation:
    """The optimiser behind a clip of the global norm.

    AdamW (Loshchilov & Hutter 2019) throughout, or Muon (Jordan et al. 2024) on the layers'
    matrices, its updates scaled to AdamW's size (Liu et al. 2025) so that both share one
    learning rate.
    """
    rate = learning_rate(recipe)
    update = optax.adamw(
        rate,
        b1=recipe.beta1,
        b2=recipe.beta2,
        weight_decay=recipe.weight_decay,
        mask=lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params),
    )
    if recipe.optimizer == "muon":
        muon = optax.contrib.muon(rate, weight_decay=recipe.weight_decay, consistent_rms=0.2)
        update = optax.multi_transform(
            {"muon": muon, "adamw": update},
            lambda params: jax.tree_util.tree_map_with_path(_kind, params),
        )
    return optax.chain(optax.clip_by_global_norm(recipe.clip_norm), update)
