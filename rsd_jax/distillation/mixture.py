"""A mixture of training texts: which source a window is from, and where in it."""

import dataclasses
import pathlib
from collections.abc import Mapping

import numpy as np

from rsd_jax.distillation import corpus
from rsd_jax.distillation.tokenizer import BOS_ID
from rsd_jax.errors import ConfigError


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """A text and its share of the windows.

    Attributes:
      name: of the source.
      tokens: u16[n], `<s>` document `</s>` over and over.
      weight: its share, relative to the other sources' weights.
      starts: i64[d], where documents start; None for a text whose windows are cut anywhere.
    """

    name: str
    tokens: np.ndarray
    weight: float
    starts: np.ndarray | None = None

    def draw(self, rng: np.random.Generator, count: int, length: int) -> np.ndarray:
        """Random windows i32[count, 1 + length], each of which opens with `<s>`.

        From a text of documents: whole documents back to back as they are in the file, the first
        one chosen at random, the last one cut where the window is full. The file is a ring, so
        that all documents are seen equally often.

        Raises:
          ConfigError: a text that is cut anywhere is shorter than one window.
        """
        if self.starts is None:
            return corpus.random_windows(self.tokens, rng, count=count, length=length)
        return self._whole(self.starts[rng.integers(0, len(self.starts), count)], length)

    def draw_masked(
        self, rng: np.random.Generator, count: int, length: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """The windows of `draw`, and bool[count, length]: the labels (all tokens of a window but
        its first) that are to be learned, here all of them.
        """
        windows = self.draw(rng, count, length)
        return windows, np.ones((count, length), bool)

    def spread(self, count: int, length: int) -> np.ndarray:
        """`count` windows i32[count, 1 + length] spread evenly over the text, for evaluation."""
        if self.starts is None:
            return corpus.spread_windows(self.tokens, count=count, length=length)
        chosen = np.arange(count) * len(self.starts) // max(count, 1)
        return self._whole(self.starts[chosen], length)

    def _whole(self, starts: np.ndarray, length: int) -> np.ndarray:
        at = (starts[:, None] + np.arange(1 + length)) % len(self.tokens)
        return self.tokens[at].astype(np.int32)


@dataclasses.dataclass(frozen=True, eq=False)
class Mixture:
    """Sources of windows, in a fixed order."""

    sources: tuple[Source, ...]

    def _counts(self, count: int, offset: float) -> list[int]:
        """Windows per source: shares of `count`, rounded down or up as `offset` in [0, 1) says.

        Systematic sampling: over a uniform offset each source has its share in expectation, and
        a batch never departs from it by as much as one window.
        """
        weights = np.cumsum([source.weight for source in self.sources])
        points = (np.arange(count) + offset) / count * weights[-1]
        chosen = np.searchsorted(weights[:-1], points, side="right")
        return np.bincount(chosen, minlength=len(self.sources)).tolist()

    def batch_at(self, *, seed: int, step: int, batch_size: int, length: int) -> np.ndarray:
        """The training batch of a step, i32[batch_size, 1 + length], of (seed, step) alone.

        Raises:
          ConfigError: see `Source.draw`.
        """
        return self.masked_batch_at(seed=seed, step=step, batch_size=batch_size, length=length)[0]

    def masked_batch_at(
        self, *, seed: int, step: int, batch_size: int, length: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """`batch_at`, and bool[batch_size, length]: the labels that are to be learned."""
        rng = np.random.default_rng((seed, step))
        counts = self._counts(batch_size, rng.random())
        drawn = [
            source.draw_masked(rng, count, length)
            for source, count in zip(self.sources, counts, strict=True)
        ]
        windows, masks = zip(*drawn, strict=True)
        return np.concatenate(windows), np.concatenate(masks)

    def spread_windows(self, *, count: int, length: int) -> np.ndarray:
        """Windows i32[count, 1 + length] in the mixture's proportions, for evaluation."""
        counts = self._counts(count, 0.5)
        windows = [source.spread(n, length) for source, n in zip(self.sources, counts, strict=True)]
        return np.concatenate(windows)


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
    """A source as `corpus.write_documents` left it in `directory`.

    Raises:
      ConfigError: the tokens of the split are missing.
    """
    tokens = corpus.open_tokens(directory, split)
    # Text never encodes to <s>, so each one is the start of a document.
    starts = None if anywhere else np.flatnonzero(tokens == BOS_ID)
    return Source(directory.name, tokens, weight, starts)
