"""Prompts for the target to answer: from training text without any test prompt, or a user's own."""

import hashlib
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence

from tokenizers import Tokenizer

from rsd_jax.distillation.data.corpus import SourceFile
from rsd_jax.distillation.data.documents import LIBRARY
from rsd_jax.distillation.data.functions import docstring_examples
from rsd_jax.distillation.data.passages import cut_prompts
from rsd_jax.distillation.data.text_files import read_documents
from rsd_jax.distillation.data.tokenizer import as_text
from rsd_jax.errors import ConfigError, positive_integer
from rsd_jax.tasks.number_words import number_words_prompt
from rsd_jax.tasks.prompts import Prompt

# Candidates per requested prompt, as some candidates are too long.
_SPARE = 2
_PROMPT = "{prompt}"


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
    as_text(tokenizer)
    chosen: dict[str, list[int]] = {}
    for source, count in counts.items():
        if count < 1:
            continue
        wanted = len(chosen) + count
        for prompt in PROMPT_SOURCES[source](files, tokenizer, count):
            ids = tokenizer.encode(prompt.text).ids
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
    tokenizer: Tokenizer,
    *,
    field: str = "prompt",
    max_tokens: int,
    limit: int | None = None,
    template: str = _PROMPT,
) -> dict[str, list[int]]:
    """Encoded prompts by name, in the order of the files; a repeated prompt is taken once.

    Warns how many prompts were too long, if any were.

    Args:
      patterns, field: see `text_files.read_documents`.
      tokenizer: as in `training_prompts`.
      max_tokens: longer prompts are left out; template and special tokens count.
      limit: take at most this many prompts, from the first.
      template: text around each prompt, e.g. "[INST] {prompt} [/INST]" for Llama 2 Chat.

    Raises:
      ConfigError: see `read_documents`; the template does not hold `{prompt}` exactly once, or
        holds a special token, which would be encoded as text; or no prompt is short enough.
    """
    positive_integer("max_tokens", max_tokens)
    if limit is not None:
        positive_integer("limit", limit)
    _check_template(template, tokenizer)
    as_text(tokenizer)
    chosen: dict[str, list[int]] = {}
    seen: set[str] = set()
    long = 0
    for name, text in read_documents(patterns, field=field):
        if text in seen:
            continue
        seen.add(text)
        ids = tokenizer.encode(template.replace(_PROMPT, text)).ids
        if len(ids) > max_tokens:
            long += 1
            continue
        chosen[name] = ids
        if len(chosen) == limit:
            break
    message = f"{long} of {len(seen)} prompts of {patterns} have more than {max_tokens} tokens"
    if not chosen:
        raise ConfigError(
            f"{message}, and no other is left; raise max_tokens, or give shorter prompts"
        )
    if long:
        warnings.warn(f"{message} and are left out", stacklevel=2)
    return chosen


def _check_template(template: str, tokenizer: Tokenizer) -> None:
    if template.count(_PROMPT) != 1:
        raise ConfigError(f"template={template!r} must hold {_PROMPT} once")
    for token in tokenizer.get_added_tokens_decoder().values():
        if token.special and token.content in template:
            raise ConfigError(
                f"template={template!r} holds the special token {token.content!r}, which would be "
                "encoded as text; leave it out, as the tokenizer adds BOS itself"
            )
