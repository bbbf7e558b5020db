"""Training text as files of 16-bit tokens, above all the standard library of this machine."""

import dataclasses
import hashlib
import json
import pathlib
import platform
import sysconfig
from collections.abc import Mapping

import numpy as np
from tokenizers import Tokenizer

from rsd_jax.distillation.tokenizer import BOS_ID, EOS_ID
from rsd_jax.errors import ConfigError

# Third-party code; tests (distributions often leave them out); generated tables.
_EXCLUDED = frozenset({
    "site-packages", "dist-packages", "test", "tests", "idle_test", "encodings", "pydoc_data",
    "__pycache__",
})  # fmt: skip
_HELD_OUT_PER_MILLE = 40
SPLITS = ("train", "heldout")


@dataclasses.dataclass(frozen=True)
class SourceFile:
    """One file of the corpus: its path below the root, in POSIX form, and its text."""

    name: str
    text: str

    @property
    def held_out(self) -> bool:
        """Whether the file is kept from training: decided by its name alone."""
        return is_held_out(self.name)


def is_held_out(name: str) -> bool:
    """Puts 4 % of the names into the held-out split, the same ones on every machine."""
    digest = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(digest[:8], "big") % 1000 < _HELD_OUT_PER_MILLE


def read_files(root: str | pathlib.Path | None = None) -> list[SourceFile]:
    """The Python files below `root` (default: the running interpreter's library), by name.

    Raises:
      ConfigError: there are none.
    """
    root = pathlib.Path(root or sysconfig.get_path("stdlib"))
    found = []
    for path in root.rglob("*.py"):
        relative = path.relative_to(root)
        if _EXCLUDED & set(relative.parts):
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:  # a few files declare another encoding
            continue
        if text.strip():
            found.append(SourceFile(relative.as_posix(), text))
    if not found:
        raise ConfigError(f"no Python source below {root}; give another corpus root")
    return sorted(found, key=lambda file: file.name)


def write_documents(
    documents: Mapping[str, list[str]], tokenizer: Tokenizer, directory: pathlib.Path, *, unit: str
) -> dict:
    """Writes train.bin and heldout.bin, u16[n]: `<s>` text `</s>` for each text, and corpus.json.

    Args:
      documents: the texts of each split.
      tokenizer: encodes them; a special token's name in a text is text, not a boundary.
      directory: receives the files.
      unit: what a document is called in corpus.json, in the plural.

    Returns:
      The contents of corpus.json: interpreter version, and per split documents, bytes, tokens.

    Raises:
      ConfigError: a split has no documents.
    """
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.encode_special_tokens = True
    summary: dict = {"python": platform.python_version()}
    for split in SPLITS:
        texts = documents[split]
        if not texts:
            raise ConfigError(
                f"the source {directory.name!r} has no {unit} in the split {split!r}; give it "
                "some, or leave it out of the mixture"
            )
        encoded = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        ids = [np.asarray((BOS_ID, *e.ids, EOS_ID), np.uint16) for e in encoded]
        np.concatenate(ids).tofile(directory / f"{split}.bin")
        size = sum(len(text.encode()) for text in texts)
        summary[split] = {unit: len(texts), "bytes": size, "tokens": sum(map(len, ids))}
    (directory / "corpus.json").write_text(json.dumps(summary, indent=2) + "\n")
    return summary


def write_tokens(files: list[SourceFile], tokenizer: Tokenizer, directory: pathlib.Path) -> dict:
    """Writes both splits of the library, see `write_documents`."""
    texts = {
        split: [file.text for file in files if file.held_out == (split == "heldout")]
        for split in SPLITS
    }
    return write_documents(texts, tokenizer, directory, unit="files")


def open_tokens(directory: pathlib.Path, split: str) -> np.ndarray:
    """A split as a read-only memory map, u16[n].

    Raises:
      ConfigError: the file is missing.
    """
    path = directory / f"{split}.bin"
    if not path.is_file():
        raise ConfigError(f"{path} does not exist; run the text stage first")
    return np.memmap(path, np.uint16, mode="r")


def _windows(tokens: np.ndarray, starts: np.ndarray, length: int) -> np.ndarray:
    body = tokens[starts[:, None] + np.arange(length)].astype(np.int32)
    # A window opens with <s> wherever it is cut, as a prompt does.
    return np.concatenate([np.full((len(starts), 1), BOS_ID, np.int32), body], axis=1)


def random_windows(
    tokens: np.ndarray, rng: np.random.Generator, *, count: int, length: int
) -> np.ndarray:
    """Random runs of `length` tokens behind an `<s>`, i32[count, 1 + length].

    Raises:
      ConfigError: the corpus is shorter than one window.
    """
    if len(tokens) < length:
        raise ConfigError(f"the corpus has {len(tokens)} tokens, fewer than one window of {length}")
    return _windows(tokens, rng.integers(0, len(tokens) - length + 1, count), length)


def batch_at(
    tokens: np.ndarray, *, seed: int, step: int, batch_size: int, length: int
) -> np.ndarray:
    """The training batch of a step, i32[batch_size, 1 + length], a function of (seed, step) alone.

    Raises:
      ConfigError: the corpus is shorter than one window.
    """
    rng = np.random.default_rng((seed, step))
    return random_windows(tokens, rng, count=batch_size, length=length)


def spread_windows(tokens: np.ndarray, *, count: int, length: int) -> np.ndarray:
    """`count` windows i32[count, 1 + length] spread evenly over the tokens, for evaluation."""
    starts = np.linspace(0, len(tokens) - length, count).astype(np.int64)
    return _windows(tokens, starts, length)
