"""A task's prompts as tokens for a pair, and a pair's tokens as answers."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from rsd_jax.core.types import LoadedModel
from rsd_jax.engine.generation import decode
from rsd_jax.engine.job import prepare
from rsd_jax.engine.methods import build_method
from rsd_jax.engine.request import Request, Sampling
from rsd_jax.records.json_objects import json_sha256
from rsd_jax.tasks.base import Task
from rsd_jax.tasks.prompts import Prompt
from rsd_jax.text.chat import ChatOptions, prints_date
from rsd_jax.text.encoding import decode as decode_text
from rsd_jax.text.encoding import warn_of_special_starts
from rsd_jax.text.prompts import prompt_ids


@dataclasses.dataclass(frozen=True)
class Encoded:
    """Prompts that fit the models.

    Attributes:
      prompts: prompts that fit, in the order of the task.
      tokens: token ids of each prompt.
      num_skipped: how many prompts do not fit.
      sha256: hash of `tokens`.
      references_sha256: hash of the references of `prompts`.
      chat_date: the date that the tokenizer's chat template printed; None if it prints none.
    """

    prompts: list[Prompt]
    tokens: list[list[int]]
    num_skipped: int
    sha256: str
    references_sha256: str
    chat_date: str | None = None


def encode(
    prompts: Sequence[Prompt],
    tokenizer: Any,
    target: LoadedModel,
    draft: LoadedModel | None,
    *,
    max_new_tokens: int,
    parse_special: bool = False,
    chat: ChatOptions | None = None,
) -> Encoded:
    """Tokens of prompts, without prompts that are too long for either model.

    A prompt is left out for every method, also for methods without a draft model, so that all
    methods decode the same prompts.

    Args:
      prompts: prompts of a task, with its template applied.
      tokenizer, parse_special, chat: see `token_ids`.
      target, draft: the positions of both have to hold a prompt and its answer.
      max_new_tokens: limit of an answer.

    Raises:
      ConfigError: see `token_ids`.
    """
    positions = min(m.model.max_positions for m in (target, draft) if m is not None)
    tokens = token_ids(prompts, tokenizer, parse_special=parse_special, chat=chat)
    rendered = any(prompt.messages is not None for prompt in prompts)
    dated = (chat or ChatOptions()).date if rendered and prints_date(tokenizer) else None
    fit = [len(ids) + max_new_tokens <= positions for ids in tokens]
    kept = [pair for pair, fits in zip(zip(prompts, tokens, strict=True), fit, strict=True) if fits]
    return Encoded(
        prompts=[prompt for prompt, _ in kept],
        tokens=[ids for _, ids in kept],
        num_skipped=fit.count(False),
        sha256=json_sha256([ids for _, ids in kept]),
        references_sha256=json_sha256([prompt.reference for prompt, _ in kept]),
        chat_date=dated,
    )


def token_ids(
    prompts: Sequence[Prompt],
    tokenizer: Any,
    *,
    parse_special: bool = False,
    chat: ChatOptions | None = None,
) -> list[list[int]]:
    """Tokens of each prompt; of a prompt with ids, these ids. Warns as `encode_prompts` does.

    Args:
      prompts: prompts of a task, with its template applied.
      tokenizer, parse_special, chat: see `encode_prompts`.

    Raises:
      ConfigError: see `encode_prompts`.
    """
    if not parse_special:
        warn_of_special_starts(tokenizer, plain_texts(prompts))
    return [
        tokens_of(prompt, tokenizer, parse_special=parse_special, chat=chat) for prompt in prompts
    ]


def tokens_of(
    prompt: Prompt,
    tokenizer: Any,
    *,
    parse_special: bool = False,
    chat: ChatOptions | None = None,
) -> list[int]:
    """`token_ids` for one prompt, without the warning."""
    if prompt.ids is not None:
        return list(prompt.ids)
    asked = prompt.text if prompt.messages is None else prompt.messages
    return prompt_ids(tokenizer, asked, parse_special=parse_special, chat=chat)


def plain_texts(prompts: Sequence[Prompt]) -> list[str]:
    """The texts of the prompts that are neither conversations nor token ids."""
    return [p.text for p in prompts if p.messages is None and p.ids is None]


def with_follow_ups(
    task: Task, prompts: Sequence[Prompt], answer: Callable[[Sequence[Prompt]], dict[str, str]]
) -> list[Prompt]:
    """All first turns, then all second turns, and so on, each with the turns before it.

    All methods have to decode the same prompts. The earlier answers are therefore not a method's
    own: `answer` gives them once for all methods.

    Args:
      task: gives the turn that follows an answer.
      prompts: first turns.
      answer: maps prompts to answers by prompt name; prompts that it cannot answer are missing.
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
    """The target's answers at temperature 0, decoded without a draft, as text.

    Args:
      target: the model that answers.
      tokenizer: tokenizer of the target.
      tokens: token ids of the prompts.
      sampling: its temperature is ignored.
      batch_size: as in `generate`.

    Raises:
      ConfigError, NonFiniteLogitsError: as `generate`.
    """
    sampling = dataclasses.replace(sampling, temperature=0.0)
    request = Request(prompts=tokens, sampling=sampling, batch_size=batch_size)
    result = decode(prepare(build_method("ar"), target, None, request))
    return texts(tokenizer, result.tokens, sampling.eos_ids)


def texts(tokenizer: Any, tokens: list[list[int]], ends: tuple[int, ...]) -> list[str]:
    """Answers as text; the ids `ends` are removed even if the tokenizer calls them ordinary."""
    kept = [[token for token in row if token not in ends] for row in tokens]
    return [decode_text(tokenizer, row) for row in kept]
