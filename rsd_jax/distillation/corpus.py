"""The training text: the CPython standard library of this machine, as files of 16-bit tokens."""

import dataclasses
import hashlib
import json
import pathlib
import platform
import sysconfig

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


def write_tokens(files: list[SourceFile], tokenizer: Tokenizer, directory: pathlib.Path) -> dict:
    """Writes train.bin and heldout.bin, u16[n]: `<s>` text `</s>` for each file, and corpus.json.

    Returns:
      The contents of corpus.json: interpreter version, and per split files, bytes, tokens.
    """
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.encode_special_tokens = True  # "<s>" in a source file is text, not a boundary
    summary: dict = {"python": platform.python_version()}
    for split in SPLITS:
        chosen = [file for file in files if file.held_out == (split == "heldout")]
        encoded = tokenizer.encode_batch([f.text for f in chosen], add_special_tokens=False)
        ids = [i for e in encoded for i in (BOS_ID, *e.ids, EOS_ID)]
        np.asarray(ids, np.uint16).tofile(directory / f"{split}.bin")
        size = sum(len(file.text.encode()) for file in chosen)
        summary[split] = {"files": len(chosen), "bytes": size, "tokens": len(ids)}
    (directory / "corpus.json").write_text(json.dumps(summary, indent=2) + "\n")
    return summary


def open_tokens(directory: pathlib.Path, split: str) -> np.ndarray:
    """A split as a read-only memory map, u16[n].

    Raises:
      ConfigError: the file is missing.
    """
    path = directory / f"{split}.bin"
    if not path.is_file():
        raise ConfigError(f"{path} does not exist; run the tokenizer stage first")
    return np.memmap(path, np.uint16, mode="r")


def _windows(tokens: np.ndarray, starts: np.ndarray, length: int) -> np.ndarray:
    body = tokens[starts[:, None] + np.arange(length)].astype(np.int32)
    # A window opens with <s> wherever it is cut, as a prompt does.
    return np.concatenate([np.full((len(starts), 1), BOS_ID, np.int32), body], axis=1)


def batch_at(
    tokens: np.ndarray, *, seed: int, step: int, batch_size: int, length: int
) -> np.ndarray:
    """The training batch of a step, i32[batch_size, 1 + length], a function of (seed, step) alone.

    Raises:
      ConfigError: the corpus is shorter than one window.
    """
    if len(tokens) < length:
        raise ConfigError(f"the corpus has {len(tokens)} tokens, fewer than one window of {length}")
    starts = np.random.default_rng((seed, step)).integers(0, len(tokens) - length + 1, batch_size)
    return _windows(tokens, starts, length)


def spread_windows(tokens: np.ndarray, *, count: int, length: int) -> np.ndarray:
    """`count` windows i32[count, 1 + length] spread evenly over the tokens, for evaluation."""
    starts = np.linspace(0, len(tokens) - length, count).astype(np.int64)
    return _windows(tokens, starts, length)
