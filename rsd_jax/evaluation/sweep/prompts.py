"""A task's prompts as a pair takes them in."""

import dataclasses
import hashlib
import json
from typing import Any

from rsd_jax.errors import ConfigError
from rsd_jax.job import LoadedModel
from rsd_jax.tasks.base import Task
from rsd_jax.tasks.prompts import Prompt


@dataclasses.dataclass(frozen=True)
class Encoded:
    """Prompts that fit the models.

    Attributes:
      prompts: those that fit, in the order of the task.
      tokens: of each.
      num_skipped: how many do not fit.
      sha256: of the tokens of those that do.
    """

    prompts: list[Prompt]
    tokens: list[list[int]]
    num_skipped: int
    sha256: str


def encode(
    task: Task,
    tokenizer: Any,
    target: LoadedModel,
    draft: LoadedModel | None,
    *,
    count: int,
    max_new_tokens: int,
) -> Encoded:
    """Tokens of the task's first prompts; those too long for either model are left out.

    For every method alike, also for one that needs no draft: all decode the same prompts.

    Args:
      task: with the template applied.
      tokenizer: of transformers; puts BOS in front if it is made so.
      target, draft: whose positions have to hold a prompt and its answer.
      count: prompts, those that are left out included.
      max_new_tokens: of an answer.

    Raises:
      ConfigError: see `Task.test_prompts`.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        backend.encode_special_tokens = True  # a special token's name in a text is text
    positions = min(m.model.max_positions for m in (target, draft) if m is not None)
    prompts = task.test_prompts(count)
    tokens = [list(tokenizer(prompt.text).input_ids) for prompt in prompts]
    fit = [len(ids) + max_new_tokens <= positions for ids in tokens]
    kept = [ids for ids, fits in zip(tokens, fit, strict=True) if fits]
    return Encoded(
        prompts=[prompt for prompt, fits in zip(prompts, fit, strict=True) if fits],
        tokens=kept,
        num_skipped=fit.count(False),
        sha256=hashlib.sha256(json.dumps(kept).encode()).hexdigest(),
    )


def texts(tokenizer: Any, tokens: list[list[int]], ends: tuple[int, ...]) -> list[str]:
    """Answers as text; ends by their ids, as they need not be special to the tokenizer."""
    kept = [[token for token in row if token not in ends] for row in tokens]
    return [tokenizer.decode(row, skip_special_tokens=True) for row in kept]


def ends_of(target: LoadedModel, tokenizer: Any) -> tuple[int, ...]:
    """Ids that end an answer: the model's, or else the tokenizer's.

    Raises:
      ConfigError: neither has any.
    """
    own = tuple(getattr(getattr(target.model, "config", None), "eos_ids", ()))
    if own:
        return own
    if tokenizer.eos_token_id is None:
        raise ConfigError(
            "neither the target's config.json nor its tokenizer has an end-of-sequence token; add "
            "eos_token_id to config.json"
        )
    return (tokenizer.eos_token_id,)
