"""Responses as a source of training windows, with a mask of the response tokens."""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from rsd_jax.core.vocabulary import STAND_IN
from rsd_jax.distillation.data.mixture import Source
from rsd_jax.distillation.data.windows import Top, Windows
from rsd_jax.errors import ConfigError


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class ResponseSource(Source):
    """A source whose documents are sequences of a prompt and its response.

    Attributes:
      starts: i64[S], where sequences start; prompts need not open with `<s>`.
      prompt_length: i32[S], tokens of each prompt.
      top: at each response token, in order, or None.
    """

    prompt_length: np.ndarray
    top: Top | None = None

    @property
    def length(self) -> np.ndarray:
        """i64[S], tokens of each sequence."""
        assert self.starts is not None
        return np.diff(self.starts, append=len(self.tokens))

    @functools.cached_property
    def is_response(self) -> np.ndarray:
        """bool[n]: which tokens belong to a response."""
        assert self.starts is not None
        ends = np.repeat(self.starts + self.prompt_length, self.length)
        return np.arange(len(self.tokens)) >= ends

    @functools.cached_property
    def _row_of(self) -> np.ndarray:
        """i64[n]: the row of `top` of each response token."""
        return np.maximum(np.cumsum(self.is_response) - 1, 0)

    def with_ids(self, draft_ids: np.ndarray) -> "ResponseSource":
        """The source in the ids of a draft that knows only some tokens of the target.

        Unknown tokens become `STAND_IN`. In `top` their probability becomes 0: the draft learns the
        target's law on the tokens that it knows, as it can propose no others.

        Args:
          draft_ids: i32[V], -1 for unknown tokens.
        """
        tokens = draft_ids[self.tokens]
        top = self.top
        if top is not None:
            ids = draft_ids[top.ids]
            logprobs = np.where(ids >= 0, top.logprobs, -np.inf).astype(top.logprobs.dtype)
            top = Top(np.where(ids >= 0, ids, STAND_IN), logprobs, top.rest)
        return dataclasses.replace(self, tokens=np.where(tokens >= 0, tokens, STAND_IN), top=top)

    def prompts(self) -> list[np.ndarray]:
        """The prompt of every sequence."""
        assert self.starts is not None
        pairs = zip(self.starts, self.prompt_length, strict=True)
        return [self.tokens[start : start + size] for start, size in pairs]

    def windows(self, starts: np.ndarray, length: int) -> Windows:
        """Windows that open at `starts`; sequences follow one another, the first after the last.

        Raises:
          ConfigError: a window would hold no response token of its first sequence.
        """
        if self.prompt_length.max() > length:
            raise ConfigError(
                f"the source {self.name!r} has a prompt of {self.prompt_length.max()} tokens; a "
                f"window of {length} shows nothing of its response: lengthen `window`, or leave "
                "such prompts out"
            )
        at = starts[:, None] + np.arange(1 + length)
        labels = at[:, 1:] % len(self.tokens)
        # If a window is longer than the data, tokens repeat and could be copied: not learned.
        mask = self.is_response[labels] & (np.arange(1, 1 + length) < len(self.tokens))[None]
        top = None
        if self.top is not None:
            top = Top(*(array[self._row_of[labels]] for array in self.top))
        return Windows(self.tokens[at % len(self.tokens)].astype(np.int32), mask, top)

    def batch_at(self, *, seed: int, step: int, batch_size: int, length: int) -> Windows:
        """The batch of a step without a mixture, with `top`; depends only on (seed, step).

        Raises:
          ConfigError: a window would hold no response token of its first sequence.
        """
        return self.draw(np.random.default_rng((seed, step)), batch_size, length)


def as_source(
    name: str,
    tokens: np.ndarray,
    length: np.ndarray,
    prompt_length: np.ndarray,
    *,
    weight: float = 1.0,
    top: Top | None = None,
) -> ResponseSource:
    """A source of consecutive sequences; sequence i has `length[i]` tokens, `length` i32[S]."""
    starts = np.cumsum(length, dtype=np.int64) - length
    return ResponseSource(
        name=name, tokens=tokens, weight=weight, starts=starts, prompt_length=prompt_length, top=top
    )


def joined(sources: Sequence[ResponseSource]) -> ResponseSource:
    """One source with the sequences of all, in order; name and weight are those of the first.

    Args:
      sources: at least one; all with `top`, or none.
    """
    first = sources[0]
    if len(sources) == 1:
        return first
    tops = [source.top for source in sources if source.top is not None]
    top = None
    if tops:
        fields = zip(*((each.ids, each.logprobs, each.rest) for each in tops), strict=True)
        top = Top(*(np.concatenate(arrays) for arrays in fields))
    return as_source(
        first.name,
        np.concatenate([source.tokens for source in sources]),
        np.concatenate([source.length for source in sources]),
        np.concatenate([source.prompt_length for source in sources]),
        weight=first.weight,
        top=top,
    )
