"""The training documents of each source: the library, a user's files, examples of the tasks."""

import hashlib
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tokenizers import Tokenizer

from rsd_jax.distillation.data.corpus import SourceFile, write_tokens
from rsd_jax.distillation.data.functions import docstring_examples
from rsd_jax.distillation.data.mixture import Mixture, check_weights, open_source
from rsd_jax.distillation.data.text_files import split_texts, write_text
from rsd_jax.distillation.data.token_files import SPLITS, write_documents
from rsd_jax.distillation.data.tokenizer import BOS_ID, EOS_ID
from rsd_jax.tasks.number_words import number_words_prompt
from rsd_jax.tasks.prompts import Prompt

LIBRARY, FILES = "library", "files"
Documents = dict[str, list[str]]


def _texts(examples: list[Prompt]) -> list[str]:
    """Examples as documents, in pseudorandom order."""
    texts = [example.text + example.reference for example in examples]
    return sorted(texts, key=lambda text: hashlib.sha256(text.encode()).digest())


def _docstrings(files: Sequence[SourceFile], counts: Mapping[str, int]) -> Documents:
    return {split: _texts(found) for split, found in docstring_examples(files).items()}


def _number_words(files: Sequence[SourceFile], counts: Mapping[str, int]) -> Documents:
    examples = {"train": "train", "heldout": "test"}
    return {
        split: [
            example.text + example.reference
            for example in (number_words_prompt(examples[split], i) for i in range(counts[split]))
        ]
        for split in SPLITS
    }


TASK_SOURCES: dict[str, Callable[[Sequence[SourceFile], Mapping[str, int]], Documents]] = {
    "docstrings": _docstrings,
    "number_words": _number_words,
}
SOURCES = (LIBRARY, FILES, *TASK_SOURCES)


def task_documents(
    files: Sequence[SourceFile], weights: Mapping[str, float], counts: Mapping[str, int]
) -> dict[str, Documents]:
    """The documents of each task in the mixture, by source and split.

    Args:
      files: files of the library; `docstrings` is cut from these.
      weights: weights of the mixture; a source without weight is left out.
      counts: examples of `number_words` per split.

    Raises:
      ConfigError: see `check_weights`.
    """
    names = check_weights(weights, SOURCES)
    return {name: TASK_SOURCES[name](files, counts) for name in names if name in TASK_SOURCES}


def tokenizer_texts(
    files: Sequence[SourceFile],
    tasks: Mapping[str, Documents],
    per_source: int,
    own: Mapping[str, Any] | None = None,
) -> Iterator[str]:
    """Texts to train the tokenizer on: training files of the library and of the user (`own`, see
    `write_sources`), and `per_source` documents of each task.
    """
    yield from (file.text for file in files if not file.held_out)
    if own is not None:
        yield from split_texts(split="train", **own)
    for texts in tasks.values():
        yield from texts["train"][:per_source]


def write_sources(
    files: list[SourceFile],
    tasks: Mapping[str, Documents],
    tokenizer: Tokenizer,
    directory: pathlib.Path,
    *,
    own: Mapping[str, Any] | None = None,
    bos_id: int | None = BOS_ID,
    eos_id: int = EOS_ID,
) -> dict[str, dict]:
    """Writes the tokens of each source, a folder per source.

    Args:
      files: files of the library; empty if the library is not in the mixture.
      tasks: see `task_documents`.
      tokenizer: tokenizer of all models.
      directory: receives the folders.
      own: `patterns`, `field` and `held_out_per_mille` of a user's files, see
        `text_files.write_text`; None without such files.
      bos_id, eos_id: the tokenizer's ids of `<s>` and `</s>`; see `write_documents`.

    Returns:
      What `write_documents` returns, by source.

    Raises:
      ConfigError: a source has no documents in one of the splits; see `write_text`.
    """
    ids: dict[str, Any] = {"bos_id": bos_id, "eos_id": eos_id}
    written = {}
    if files:
        written[LIBRARY] = write_tokens(files, tokenizer, directory / LIBRARY, **ids)
    if own is not None:
        written[FILES] = write_text(
            tokenizer=tokenizer, directory=directory / FILES, **{**own, **ids}
        )
    for name, texts in tasks.items():
        written[name] = write_documents(texts, tokenizer, directory / name, unit="documents", **ids)
    return written


def open_mixture(directory: pathlib.Path, weights: Mapping[str, float], split: str) -> Mixture:
    """One split of the sources that `write_sources` wrote to `directory`, mixed by `weights`.

    Windows of a task start with a document; windows of other sources are cut anywhere.

    Raises:
      ConfigError: see `check_weights`; or a source has not been written.
    """
    return Mixture(
        tuple(
            open_source(directory / name, split, weight=weight, anywhere=name in (LIBRARY, FILES))
            for name, weight in check_weights(weights, SOURCES).items()
        )
    )
