"""The data of a training step: windows of tokens, label mask, the target's likeliest tokens."""

from typing import NamedTuple, Protocol

import numpy as np


class Top(NamedTuple):
    """The target's likeliest tokens; the leading shape is [R], or [count, length] in windows.

    Attributes:
      ids: u16 or u32[..., K], the target's likeliest tokens.
      logprobs: f32[..., K], the log probabilities of `ids` at temperature 1.
      rest: f32[...], the log of the mass of all other tokens.
    """

    ids: np.ndarray
    logprobs: np.ndarray
    rest: np.ndarray


class Windows(NamedTuple):
    """Windows to train on.

    Attributes:
      tokens: i32[count, 1 + length]; labels are all tokens but a window's first.
      mask: bool[count, length], the labels to learn (in responses, the tokens that the target
        wrote); None for all labels.
      top: at each label, undefined where `mask` is False; None if not stored or not asked for.
    """

    tokens: np.ndarray
    mask: np.ndarray | None = None
    top: Top | None = None


class Data(Protocol):
    """The source of a run's batches, e.g. a `Mixture` or a `ResponseSource`."""

    def batch_at(self, *, seed: int, step: int, batch_size: int, length: int) -> Windows:
        """The batch of a step; depends only on (seed, step). Every batch has the same fields.

        Raises:
          ConfigError: there are too few tokens for a window.
        """
        ...


def join(parts: list[Windows]) -> Windows:
    """Joins windows, without `top`; in a part without a mask all labels are learned."""
    tokens = np.concatenate([part.tokens for part in parts])
    if all(part.mask is None for part in parts):
        return Windows(tokens)
    masks = [
        np.ones(part.tokens[:, 1:].shape, bool) if part.mask is None else part.mask
        for part in parts
    ]
    return Windows(tokens, np.concatenate(masks))
