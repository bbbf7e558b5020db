"""A task's prompts as tokens for a pair, and a pair's tokens as answers."""

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
      prompts: prompts that fit, in the order of the task.
      tokens: token ids of each prompt.
      num_skipped: how many prompts do not fit.
      sha256: hash of `tokens`.
      references_sha256: hash of the references of `prompts`.
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
    """Tokens of prompts, without prompts that are too long for either model.

    A prompt is left out for every method, also for methods without a draft model, so that all
    methods decode the same prompts.

    Args:
      prompts: prompts of a task, with its template applied.
      tokenizer, chat: see `token_ids`.
      target, draft: the positions of both have to hold a prompt and its answer.
      max_new_tokens: limit of an answer.
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
      prompts: prompts of a task, with its template applied.
      tokenizer: of `transformers` or `tokenizers`; its settings say whether BOS comes first.
      chat: whether names of special tokens in a text become these tokens, as the chat format
        needs between turns; otherwise such names are text.
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
    return [tokenizer.decode(row, skip_special_tokens=True) for row in kept]


def ends_of(target: LoadedModel, tokenizer: Any) -> tuple[int, ...]:
    """Ids that end an answer: from the model's configuration, or else from the tokenizer.

    Raises:
      ConfigError: neither has an end-of-sequence token.
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
