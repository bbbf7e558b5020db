"""Prompts of the training split, for the target to answer; no test prompt is among them."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence

from tokenizers import Tokenizer

from rsd_jax.distillation.corpus import SourceFile
from rsd_jax.distillation.documents import LIBRARY
from rsd_jax.distillation.functions import docstring_examples
from rsd_jax.distillation.passages import cut_prompts
from rsd_jax.errors import ConfigError
from rsd_jax.tasks.number_words import number_words_prompt
from rsd_jax.tasks.prompts import Prompt

# Candidates for each prompt that is asked for: some are too long.
_SPARE = 2


def _library(files: Sequence[SourceFile], tokenizer: Tokenizer, count: int) -> Iterable[Prompt]:
    # Short files have no passage to give, so that the others give twice their part.
    per_file = -(-2 * _SPARE * count // len(files))
    spare = _SPARE * count
    return cut_prompts(files, tokenizer, count=spare, per_file=per_file, held_out=False)


def _docstrings(files: Sequence[SourceFile], tokenizer: Tokenizer, count: int) -> Iterable[Prompt]:
    examples = docstring_examples(files)["train"]
    # In file order the first ones would be of a few modules.
    return sorted(examples, key=lambda example: hashlib.sha256(example.name.encode()).digest())


def _number_words(
    files: Sequence[SourceFile], tokenizer: Tokenizer, count: int
) -> Iterable[Prompt]:
    return (number_words_prompt("train", index) for index in range(_SPARE * count))


PROMPT_SOURCES: dict[
    str, Callable[[Sequence[SourceFile], Tokenizer, int], Iterable[Prompt]]
] = {
    LIBRARY: _library,
    "docstrings": _docstrings,
    "number_words": _number_words,
}  # fmt: skip


def training_prompts(
    files: Sequence[SourceFile],
    counts: Mapping[str, int],
    tokenizer: Tokenizer,
    *,
    max_tokens: int,
) -> dict[str, list[int]]:
    """Encoded prompts by name, source after source.

    Args:
      files: of the library; its training files give prompts of `library` and `docstrings`.
      counts: how many prompts of each source of `PROMPT_SOURCES`.
      tokenizer: encodes them, with what it puts in front of a text; a special token's name in a
        text is text.
      max_tokens: longer prompts are passed over.

    Raises:
      ConfigError: a source is unknown or has fewer such prompts, or none are asked for.
    """
    unknown = sorted(set(counts) - set(PROMPT_SOURCES))
    if unknown:
        raise ConfigError(f"no prompts of {unknown[0]!r}; there are {list(PROMPT_SOURCES)}")
    if not any(count > 0 for count in counts.values()):
        raise ConfigError(f"prompts={dict(counts)} asks for none")
    tokenizer.encode_special_tokens = True
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
