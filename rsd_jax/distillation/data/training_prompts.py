"""Prompts for the target to answer: from training text without any test prompt, or a user's own."""

import hashlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from tokenizers import Tokenizer

from rsd_jax.distillation.data.corpus import SourceFile
from rsd_jax.distillation.data.documents import LIBRARY
from rsd_jax.distillation.data.functions import docstring_examples
from rsd_jax.distillation.data.passages import cut_prompts
from rsd_jax.distillation.data.text_files import read_entries, text_field
from rsd_jax.errors import ConfigError, positive_integer
from rsd_jax.evaluation.prompts import plain_texts, tokens_of
from rsd_jax.records.json_objects import json_object
from rsd_jax.tasks.base import PLAIN
from rsd_jax.tasks.jsonl import INPUT_IDS, MESSAGES, prompt_of
from rsd_jax.tasks.number_words import number_words_prompt
from rsd_jax.tasks.prompts import Prompt
from rsd_jax.tasks.templates import CHAT, Template
from rsd_jax.text.chat import ChatOptions, check_can_chat
from rsd_jax.text.encoding import special_names, warn_of_special_starts

# Candidates per requested prompt, as some candidates are too long.
_SPARE = 2
PLAIN_PROMPT = "{prompt}"
"""The template of prompts that are used as they are."""


def _library(files: Sequence[SourceFile], tokenizer: Tokenizer, count: int) -> Iterable[Prompt]:
    # Short files have no passage, so a file may give twice its share.
    per_file = -(-2 * _SPARE * count // len(files))
    spare = _SPARE * count
    return cut_prompts(files, tokenizer, count=spare, per_file=per_file, held_out=False)


def _docstrings(files: Sequence[SourceFile], tokenizer: Tokenizer, count: int) -> Iterable[Prompt]:
    examples = docstring_examples(files)["train"]
    # In file order the first prompts would come from few modules.
    return sorted(examples, key=lambda example: hashlib.sha256(example.name.encode()).digest())


def _number_words(
    files: Sequence[SourceFile], tokenizer: Tokenizer, count: int
) -> Iterable[Prompt]:
    return (number_words_prompt("train", index) for index in range(_SPARE * count))


PROMPT_SOURCES: dict[str, Callable[[Sequence[SourceFile], Tokenizer, int], Iterable[Prompt]]] = {
    LIBRARY: _library,
    "docstrings": _docstrings,
    "number_words": _number_words,
}


def training_prompts(
    files: Sequence[SourceFile],
    counts: Mapping[str, int],
    tokenizer: Tokenizer,
    *,
    max_tokens: int,
) -> dict[str, list[int]]:
    """Encoded prompts by name, source after source.

    Args:
      files: files of the library; its training files give prompts of `library` and `docstrings`.
      counts: how many prompts of each source of `PROMPT_SOURCES`.
      tokenizer: encodes the prompts and adds its special tokens (BOS); a special token's name in
        a text is text.
      max_tokens: longer prompts are left out.

    Raises:
      ConfigError: a source is unknown or has too few prompts, or no prompts are asked for.
    """
    unknown = sorted(set(counts) - set(PROMPT_SOURCES))
    if unknown:
        raise ConfigError(f"no prompts of {unknown[0]!r}; there are {list(PROMPT_SOURCES)}")
    if not any(count > 0 for count in counts.values()):
        raise ConfigError(f"prompts={dict(counts)} asks for no prompts; set a count above 0")
    chosen: dict[str, list[int]] = {}
    for source, count in counts.items():
        if count < 1:
            continue
        wanted = len(chosen) + count
        for prompt in PROMPT_SOURCES[source](files, tokenizer, count):
            ids = tokens_of(prompt, tokenizer)
            if len(ids) <= max_tokens:
                chosen[f"{source}/{prompt.name.removeprefix(f'{source}/')}"] = ids
            if len(chosen) == wanted:
                break
        else:
            raise ConfigError(
                f"{source!r} has {len(chosen) - wanted + count} training prompts of at most "
                f"{max_tokens} tokens, not {count}; ask for fewer or longer ones"
            )
    return chosen


def prompts_from_files(
    patterns: Sequence[str],
    tokenizer: Any,
    *,
    field: str = "prompt",
    max_tokens: int,
    limit: int | None = None,
    template: str = PLAIN_PROMPT,
    system: str | None = None,
    parse_special: bool = False,
    chat: ChatOptions | None = None,
) -> dict[str, list[int]]:
    """Encoded prompts by name, in the order of the files; a repeated prompt is taken once.

    A line of JSONL has the prompt's text in `field`, a conversation in `messages`, or token ids in
    `input_ids`, which are taken as they are. Warns how many prompts were too long, if any were, and
    as `encode_prompts` does.

    Args:
      patterns, field: see `text_files.read_documents`.
      tokenizer: of `tokenizers` or, for conversations, of `transformers`.
      max_tokens: longer prompts are left out; template and special tokens count.
      limit: take at most this many prompts, from the first.
      template: "chat" for the tokenizer's own chat template, in which a prompt is the text of the
        user; or text around each prompt, e.g. "Question: {prompt} Answer:".
      system: system message of the chat template; None: there is none.
      parse_special: whether names of special tokens in template and prompts become these tokens.
      chat: options for the chat template.

    Raises:
      ConfigError: see `read_documents` and `encode_prompts`; the template does not hold `{prompt}`
        exactly once, or holds a special token, which would be encoded as text; there is a system
        message without "chat"; or no prompt is short enough.
    """
    positive_integer("max_tokens", max_tokens)
    if limit is not None:
        positive_integer("limit", limit)
    _check_template(template, tokenizer, system, parse_special)
    chosen: dict[str, list[int]] = {}
    seen: set[Any] = set()
    plain: list[Prompt] = []
    long = 0
    for prompt, content in _read_prompts(patterns, field, template, system):
        if content in seen:
            continue
        seen.add(content)
        ids = tokens_of(prompt, tokenizer, parse_special=parse_special, chat=chat)
        if len(ids) > max_tokens:
            long += 1
            continue
        chosen[prompt.name] = ids
        plain.append(prompt)
        if len(chosen) == limit:
            break
    message = f"{long} of {len(seen)} prompts of {patterns} have more than {max_tokens} tokens"
    if not chosen:
        raise ConfigError(
            f"{message}, and no other is left; raise max_tokens, or give shorter prompts"
        )
    if long:
        warnings.warn(f"{message} and are left out", stacklevel=2)
    if not parse_special:
        warn_of_special_starts(tokenizer, plain_texts(plain))
    return chosen


def _read_prompts(
    patterns: Sequence[str], field: str, template: str, system: str | None
) -> Iterator[tuple[Prompt, Any]]:
    """Prompts with the template applied, each with its content, by which a repetition is known."""
    shape = Template(CHAT, chat=True, system=system) if template == CHAT else Template(PLAIN)
    for name, line, where in read_entries(patterns):
        values = {field: line} if where is None else json_object(line, f"{where}: ")
        place = where or name
        if field not in values and {MESSAGES, INPUT_IDS} & set(values):
            prompt = prompt_of(values, place, shape, name=name)
            yield prompt, prompt.ids or prompt.messages
            continue
        text = text_field(values, field, place)
        if not text.strip():
            continue
        if shape.chat:
            yield shape.prompt(name, [text.strip()], ""), text
        else:
            yield Prompt(name, template.replace(PLAIN_PROMPT, text), ""), text


def _check_template(template: str, tokenizer: Any, system: str | None, parse_special: bool) -> None:
    if template == CHAT:
        return check_can_chat(tokenizer)
    if system is not None:
        raise ConfigError(f"system={system!r} needs template={CHAT!r}, not {template!r}")
    if template.count(PLAIN_PROMPT) != 1:
        raise ConfigError(f"template={template!r} must hold {PLAIN_PROMPT} once, or be {CHAT!r}")
    names = [] if parse_special else special_names(tokenizer)
    if found := [name for name in names if name in template]:
        raise ConfigError(
            f"template={template!r} holds the special token {found[0]!r}, which would be encoded "
            f"as text; set template={CHAT!r} for the tokenizer's own chat template, or "
            "parse_special=True to read special tokens in template and prompts"
        )
