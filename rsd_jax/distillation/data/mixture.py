"""A mixture of training texts: from which source a window is taken, and at which place."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rsd_jax.distillation.data import corpus
from rsd_jax.distillation.data.token_files import open_tokens, read_summary
from rsd_jax.distillation.data.tokenizer import BOS_ID
from rsd_jax.distillation.data.windows import Windows, join
from rsd_jax.errors import ConfigError


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """A text and its share of the windows.

    Attributes:
      name: name of the source.
      tokens: u16[n] or u32[n], see `token_files.write_documents`.
      weight: share of the source, relative to the other sources' weights.
      starts: i64[d], where documents start, with their `<s>` if there is one; None for a text whose
        windows are cut anywhere.
      bos_id: the id of `<s>`, or None.
    """

    name: str
    tokens: np.ndarray
    weight: float
    starts: np.ndarray | None = None
    bos_id: int | None = BOS_ID

    def draw(self, rng: np.random.Generator, count: int, length: int) -> Windows:
        """Random windows of `length` labels; every window opens with `<s>`, if there is one.

        A window of a text with `starts` begins with a random document and goes on with the next
        documents of the file until the window is full. The end of the file continues at its
        start, so that all documents are seen equally often.

        Raises:
          ConfigError: a text that is cut anywhere is shorter than one window.
        """
        if self.starts is None:
            return self._cut(corpus.random_windows, rng, count=count, length=length)
        return self.windows(self.starts[rng.integers(0, len(self.starts), count)], length)

    def spread(self, count: int, length: int) -> Windows:
        """`count` windows spread evenly over the text, for evaluation.

        Raises:
          ConfigError: see `draw`.
        """
        if self.starts is None:
            return self._cut(corpus.spread_windows, count=count, length=length)
        return self.windows(
            self.starts[np.arange(count) * len(self.starts) // max(count, 1)], length
        )

    def _cut(self, cut: Callable[..., np.ndarray], *args: Any, **sizes: int) -> Windows:
        return Windows(cut(self.tokens, *args, bos_id=self.bos_id, **sizes))

    def windows(self, starts: np.ndarray, length: int) -> Windows:
        """The windows that open at `starts`, of documents back to back."""
        at = (starts[:, None] + np.arange(1 + length)) % len(self.tokens)
        return Windows(self.tokens[at].astype(np.int32))


@dataclasses.dataclass(frozen=True, eq=False)
class Mixture:
    """Sources of windows, in a fixed order."""

    sources: tuple[Source, ...]

    def _counts(self, count: int, offset: float) -> list[int]:
        """Windows per source: shares of `count`, rounded down or up by `offset` in [0, 1).

        Systematic sampling: over a uniform offset each source has its share in expectation, and
        every batch differs from this share by less than one window.
        """
        weights = np.cumsum([source.weight for source in self.sources])
        points = (np.arange(count) + offset) / count * weights[-1]
        chosen = np.searchsorted(weights[:-1], points, side="right")
        return np.bincount(chosen, minlength=len(self.sources)).tolist()

    def batch_at(self, *, seed: int, step: int, batch_size: int, length: int) -> Windows:
        """The training batch of a step, without `top`; depends only on (seed, step).

        The batch has a mask if one of its sources has a mask.

        Raises:
          ConfigError: see `Source.draw`.
        """
        rng = np.random.default_rng((seed, step))
        counts = self._counts(batch_size, rng.random())
        pairs = zip(self.sources, counts, strict=True)
        return join([source.draw(rng, count, length) for source, count in pairs])

    def spread_windows(self, *, count: int, length: int) -> Windows:
        """Windows in the mixture's proportions, for evaluation, without `top`."""
        pairs = zip(self.sources, self._counts(count, 0.5), strict=True)
        return join([source.spread(n, length) for source, n in pairs])


def check_weights(weights: Mapping[str, float], known: tuple[str, ...]) -> dict[str, float]:
    """The positive weights, in the order of `known`.

    Raises:
      ConfigError: a source is unknown, a weight is negative or not finite, or none is positive.
    """
    unknown = sorted(set(weights) - set(known))
    if unknown:
        raise ConfigError(f"mixture has no source {unknown[0]!r}; its sources: {list(known)}")
    for name, weight in weights.items():
        if not 0 <= weight < float("inf"):
            raise ConfigError(f"mixture: the weight {weight} of {name!r} must be 0 or more")
    if not any(weights.values()):
        raise ConfigError(f"mixture={dict(weights)} needs a positive weight")
    return {name: float(weights[name]) for name in known if weights.get(name)}


def open_source(directory: pathlib.Path, split: str, *, weight: float, anywhere: bool) -> Source:
    """A source as `token_files.write_documents` left it in `directory`.

    Raises:
      ConfigError: the tokens of the split, or corpus.json, are missing.
    """
    tokens = open_tokens(directory, split)
    summary = read_summary(directory)
    bos_id, starts = summary["bos_id"], None
    if not anywhere:
        # Text never encodes to a mark, so each <s> is the start of a document. One token that is
        # both marks opens the document behind it; the last one opens the first document.
        starts = np.flatnonzero(tokens == (summary["eos_id"] if bos_id is None else bos_id))
        starts = (starts + (bos_id is None)) % len(tokens)
    return Source(directory.name, tokens, weight, starts, bos_id)
