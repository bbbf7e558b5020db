"""A task's prompts as a pair takes them in."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

from rsd_jax.core.types import LoadedModel
from rsd_jax.errors import ConfigError
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
      references_sha256: of their references.
    """

    prompts: list[Prompt]
    tokens: list[list[int]]
    num_skipped: int
    sha256: str
    references_sha256: str


def encode(
    prompts: Sequence[Prompt],
    tokenizer: Any,
    target: LoadedModel,
    draft: LoadedModel | None,
    *,
    max_new_tokens: int,
    chat: bool = False,
) -> Encoded:
    """Tokens of prompts; those too long for either model are left out.

    For every method alike, also for one that needs no draft: all decode the same prompts.

    Args:
      prompts: of a task, with its template applied.
      tokenizer: of transformers; puts BOS in front if it is made so.
      target, draft: whose positions have to hold a prompt and its answer.
      max_new_tokens: of an answer.
      chat: whether the names of special tokens in a text stand for them, as the chat format has
        it between turns; otherwise they are text.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        backend.encode_special_tokens = not chat
    positions = min(m.model.max_positions for m in (target, draft) if m is not None)
    tokens = [list(tokenizer(prompt.text).input_ids) for prompt in prompts]
    fit = [len(ids) + max_new_tokens <= positions for ids in tokens]
    kept = [pair for pair, fits in zip(zip(prompts, tokens, strict=True), fit, strict=True) if fits]
    return Encoded(
        prompts=[prompt for prompt, _ in kept],
        tokens=[ids for _, ids in kept],
        num_skipped=fit.count(False),
        sha256=_digest([ids for _, ids in kept]),
        references_sha256=_digest([prompt.reference for prompt, _ in kept]),
    )


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def with_follow_ups(
    task: Task, prompts: Sequence[Prompt], answer: Callable[[Sequence[Prompt]], dict[str, str]]
) -> list[Prompt]:
    """First turns, then second turns, and so on, each with what was said before it.

    All methods are to decode the same prompts, so the earlier answers are not theirs: `answer`
    gives them once.

    Args:
      task: knows which turn comes next.
      prompts: first turns.
      answer: texts that answer prompts, by the names of those that it can answer.
    """
    everything = list(prompts)
    open_ends: list[tuple[Prompt, tuple[str, ...], Prompt]] = [(p, (), p) for p in prompts]
    while open_ends:
        texts = answer([last for _, _, last in open_ends])
        said = [
            (first, (*before, texts[last.name]))
            for first, before, last in open_ends
            if last.name in texts
        ]
        following = [(first, before, task.follow_up(first, before)) for first, before in said]
        open_ends = [(f, before, nxt) for f, before, nxt in following if nxt is not None]
        everything += [prompt for _, _, prompt in open_ends]
    return everything


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
