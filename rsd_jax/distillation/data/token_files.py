"""Training text on disk: a file of tokens per split, and corpus.json, which describes the files.

`train.bin` and `heldout.bin` hold `<s>` text `</s>` for each text, as u16, or as u32 if the
vocabulary needs it. corpus.json has the writer's `bos_id`, `eos_id` and `dtype` for readers, and
counts of documents, bytes and tokens.
"""

import itertools
import pathlib
import platform
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from tokenizers import Tokenizer
from tqdm import tqdm

from rsd_jax.distillation.data.tokenizer import BOS_ID, EOS_ID
from rsd_jax.distillation.responses.shards import token_dtype
from rsd_jax.errors import ConfigError
from rsd_jax.records.complete_files import complete_file, write_json
from rsd_jax.records.json_objects import json_object
from rsd_jax.text.encoding import as_text

SPLITS = ("train", "heldout")
_SUMMARY = "corpus.json"
_CHUNK = 1 << 22  # characters encoded at once


def write_documents(
    documents: Mapping[str, Iterable[str]],
    tokenizer: Tokenizer,
    directory: pathlib.Path,
    *,
    unit: str,
    bos_id: int | None = BOS_ID,
    eos_id: int = EOS_ID,
) -> dict:
    """Writes train.bin and heldout.bin: `<s>` text `</s>` for each text, and corpus.json.

    Without `<s>`, or if one token is both marks, it is text `</s>` for each text.

    The files hold u16[n], or u32[n] if the vocabulary needs it. A few megabytes of text at a time
    are in memory.

    Args:
      documents: the texts of each split; each is iterated once.
      tokenizer: encodes the texts; a special token's name in a text is text, not a boundary.
      directory: receives the files.
      unit: word for documents in corpus.json, in the plural.
      bos_id, eos_id: the tokenizer's ids of `<s>` and `</s>`; `bos_id` None: there is no `<s>`.

    Returns:
      The contents of corpus.json: interpreter version, the two ids, dtype of the tokens, and per
      split documents, bytes, tokens.

    Raises:
      ConfigError: a split has no documents (raised before anything is encoded); an id is not in
        the vocabulary; or a text encodes to one of them.
    """
    splits = {}
    for split in SPLITS:
        texts = iter(documents[split])
        first = next(texts, None)
        if first is None:
            raise ConfigError(
                f"the source {directory.name!r} has no {unit} in the split {split!r}; give it "
                "some, or leave it out of the mixture"
            )
        splits[split] = _chunks(itertools.chain([first], texts))
    size = 1 + max(tokenizer.get_vocab().values())
    if not all(0 <= mark < size for mark in (bos_id, eos_id) if mark is not None):
        raise ConfigError(
            f"bos_id={bos_id} and eos_id={eos_id} must be ids of the tokenizer's {size}"
        )
    dtype = token_dtype(size)
    directory.mkdir(parents=True, exist_ok=True)
    # corpus.json is deleted first and written last: where it exists, the other files are complete.
    (directory / _SUMMARY).unlink(missing_ok=True)
    summary: dict = {
        "python": platform.python_version(),
        "bos_id": bos_id,
        "eos_id": eos_id,
        "dtype": dtype.name,
    }
    as_text(tokenizer)
    for split, chunks in splits.items():
        count = total = tokens = 0
        bar = tqdm(desc=f"{directory.name}, {split}", unit=f" {unit}", disable=None)
        with bar, complete_file(directory / f"{split}.bin") as file:
            for chunk in chunks:
                encoded = _encode(chunk, tokenizer, bos_id, eos_id).astype(dtype)
                file.write(encoded.tobytes())
                count += len(chunk)
                total += sum(len(text.encode()) for text in chunk)
                tokens += len(encoded)
                bar.update(len(chunk))
        summary[split] = {unit: count, "bytes": total, "tokens": tokens}
    write_json(directory / _SUMMARY, summary)
    return summary


def _chunks(texts: Iterator[str]) -> Iterator[list[str]]:
    """The texts in lists of about `_CHUNK` characters."""
    chunk: list[str] = []
    size = 0
    for text in texts:
        chunk.append(text)
        size += len(text)
        if size >= _CHUNK:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _encode(texts: list[str], tokenizer: Tokenizer, bos_id: int | None, eos_id: int) -> np.ndarray:
    """The tokens and marks of each text, i64[n]."""
    encoded = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    # One token that is both marks stands once between two documents.
    opening = () if bos_id in (None, eos_id) else (bos_id,)
    ids = np.concatenate([(*opening, *e.ids, eos_id) for e in encoded])
    # Readers find the documents by their marks.
    if np.isin(ids, (*opening, eos_id)).sum() != (len(opening) + 1) * len(texts):
        raise ConfigError(
            f"a text encodes to bos_id={bos_id} or eos_id={eos_id}, which only mark where "
            "documents begin and end; give the tokenizer's ids of <s> and </s>"
        )
    return ids


def read_summary(directory: pathlib.Path) -> dict:
    """The contents of corpus.json, see `write_documents`; keys missing in older files are added.

    Raises:
      ConfigError: corpus.json is missing or damaged.
    """
    path = directory / _SUMMARY
    if not path.is_file():
        raise ConfigError(f"{path} does not exist; run the text stage first")
    older = {"bos_id": BOS_ID, "eos_id": EOS_ID, "dtype": "uint16"}
    again = f"{path} is damaged; run the text stage again: "
    return older | json_object(path.read_bytes(), again)


def open_tokens(directory: pathlib.Path, split: str) -> np.ndarray:
    """A split as a read-only memory map, u16[n] or u32[n] as it was written.

    Raises:
      ConfigError: the file or corpus.json is missing.
    """
    path = directory / f"{split}.bin"
    if not path.is_file():
        raise ConfigError(f"{path} does not exist; run the text stage first")
    return np.memmap(path, np.dtype(read_summary(directory)["dtype"]), mode="r")
