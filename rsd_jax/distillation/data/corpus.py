"""The standard library of this machine as training text, and windows of a text's tokens."""

import dataclasses
import hashlib
import pathlib
import sysconfig
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from rsd_jax.distillation.data.token_files import SPLITS, write_documents
from rsd_jax.distillation.data.tokenizer import BOS_ID
from rsd_jax.errors import ConfigError

# Third-party code; tests (distributions often leave them out); generated tables.
_EXCLUDED = frozenset(
    {
        "site-packages",
        "dist-packages",
        "test",
        "tests",
        "idle_test",
        "encodings",
        "pydoc_data",
        "__pycache__",
    }
)
HELD_OUT_PER_MILLE = 40


@dataclasses.dataclass(frozen=True)
class SourceFile:
    """One file of the corpus: its path below the root, in POSIX form, and its text."""

    name: str
    text: str

    @property
    def held_out(self) -> bool:
        """Whether the file is kept from training; only the file's name decides."""
        return is_held_out(self.name)


def is_held_out(name: str, per_mille: int = HELD_OUT_PER_MILLE) -> bool:
    """Whether a name is held out: `per_mille` of 1000 names are, the same ones on every machine."""
    digest = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(digest[:8], "big") % 1000 < per_mille


def read_files(root: str | pathlib.Path | None = None) -> list[SourceFile]:
    """The Python files below `root` (default: the running interpreter's library), sorted by name.

    Raises:
      ConfigError: there are no Python files.
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


def write_tokens(
    files: list[SourceFile], tokenizer: Tokenizer, directory: pathlib.Path, **ids: Any
) -> dict:
    """Writes both splits of the library, see `token_files.write_documents`."""
    texts = {
        split: [file.text for file in files if file.held_out == (split == "heldout")]
        for split in SPLITS
    }
    return write_documents(texts, tokenizer, directory, unit="files", **ids)


def _windows(tokens: np.ndarray, starts: np.ndarray, size: int, bos_id: int | None) -> np.ndarray:
    body = tokens[starts[:, None] + np.arange(size)].astype(np.int32)
    if bos_id is None:
        return body
    # Every window opens with <s>, as a prompt does, even if the text there does not.
    return np.concatenate([np.full((len(starts), 1), bos_id, np.int32), body], axis=1)


def _size(tokens: np.ndarray, length: int, bos_id: int | None) -> int:
    """Tokens of the text in one window; raises `ConfigError` if the text has fewer."""
    if len(tokens) < (size := length + (bos_id is None)):
        raise ConfigError(f"the corpus has {len(tokens)} tokens, fewer than one window of {size}")
    return size


def random_windows(
    tokens: np.ndarray,
    rng: np.random.Generator,
    *,
    count: int,
    length: int,
    bos_id: int | None = BOS_ID,
) -> np.ndarray:
    """Random windows i32[count, 1 + length]: `<s>` and `length` tokens in a row.

    Without `<s>` (None), 1 + `length` tokens in a row.

    Raises:
      ConfigError: the corpus is shorter than one window.
    """
    size = _size(tokens, length, bos_id)
    return _windows(tokens, rng.integers(0, len(tokens) - size + 1, count), size, bos_id)


def batch_at(
    tokens: np.ndarray,
    *,
    seed: int,
    step: int,
    batch_size: int,
    length: int,
    bos_id: int | None = BOS_ID,
) -> np.ndarray:
    """The training batch of a step, i32[batch_size, 1 + length]; depends only on (seed, step).

    The windows are those of `random_windows`.

    Raises:
      ConfigError: the corpus is shorter than one window.
    """
    rng = np.random.default_rng((seed, step))
    return random_windows(tokens, rng, count=batch_size, length=length, bos_id=bos_id)


def spread_windows(
    tokens: np.ndarray, *, count: int, length: int, bos_id: int | None = BOS_ID
) -> np.ndarray:
    """`count` windows i32[count, 1 + length] spread evenly over the tokens, for evaluation.

    The windows are like those of `random_windows`.

    Raises:
      ConfigError: the corpus is shorter than one window.
    """
    size = _size(tokens, length, bos_id)
    starts = np.linspace(0, len(tokens) - size, count).astype(np.int64)
    return _windows(tokens, starts, size, bos_id)
