"""A task's prompts as a pair takes them in."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from tokenizers import Tokenizer

from rsd_jax.core.types import LoadedModel
from rsd_jax.engine.generation import decode
from rsd_jax.engine.job import prepare
from rsd_jax.engine.methods import build_method
from rsd_jax.engine.request import Request, Sampling
from rsd_jax.errors import ConfigError
from rsd_jax.records.json_objects import json_sha256
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
      tokenizer, chat: see `token_ids`.
      target, draft: whose positions have to hold a prompt and its answer.
      max_new_tokens: of an answer.
    """
    positions = min(m.model.max_positions for m in (target, draft) if m is not None)
    tokens = token_ids(prompts, tokenizer, chat=chat)
    fit = [len(ids) + max_new_tokens <= positions for ids in tokens]
    kept = [pair for pair, fits in zip(zip(prompts, tokens, strict=True), fit, strict=True) if fits]
    return Encoded(
        prompts=[prompt for prompt, _ in kept],
        tokens=[ids for _, ids in kept],
        num_skipped=fit.count(False),
        sha256=json_sha256([ids for _, ids in kept]),
        references_sha256=json_sha256([prompt.reference for prompt, _ in kept]),
    )


def token_ids(prompts: Sequence[Prompt], tokenizer: Any, *, chat: bool = False) -> list[list[int]]:
    """Tokens of each prompt.

    Args:
      prompts: of a task, with its template applied.
      tokenizer: of `transformers` or `tokenizers`; puts BOS in front if it is made so.
      chat: whether the names of special tokens in a text stand for these tokens, as the chat
        format has it between turns; otherwise they are text.
    """
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if isinstance(backend, Tokenizer):
        backend.encode_special_tokens = not chat
    if isinstance(tokenizer, Tokenizer):
        return [tokenizer.encode(prompt.text).ids for prompt in prompts]
    return [list(tokenizer(prompt.text).input_ids) for prompt in prompts]


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


def greedy_answers(
    target: LoadedModel,
    tokenizer: Any,
    tokens: Sequence[Sequence[int]],
    sampling: Sampling,
    batch_size: int | None,
) -> list[str]:
    """What the target answers without a draft at temperature 0, as text.

    Args:
      target: answers.
      tokenizer: of the target.
      tokens: of the prompts.
      sampling: its temperature does not count.
      batch_size: as in `generate`.

    Raises:
      ConfigError, NonFiniteLogitsError: as `generate`.
    """
    sampling = dataclasses.replace(sampling, temperature=0.0)
    request = Request(prompts=tokens, sampling=sampling, batch_size=batch_size)
    result = decode(prepare(build_method("ar"), target, None, request))
    return texts(tokenizer, result.tokens, sampling.eos_ids)


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
