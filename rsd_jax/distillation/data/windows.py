"""What a training step is given: windows of tokens, which labels count, what the target knew."""

from typing import NamedTuple, Protocol

import numpy as np


class Top(NamedTuple):
    """What the target knew: arrays with a leading shape [R], or [count, length] in windows.

    Attributes:
      ids: u16 or u32[..., K], its likeliest tokens.
      logprobs: f32[..., K], their log probabilities at temperature 1.
      rest: f32[...], the log of the mass of all other tokens.
    """

    ids: np.ndarray
    logprobs: np.ndarray
    rest: np.ndarray


class Windows(NamedTuple):
    """Windows to train on.

    Attributes:
      tokens: i32[count, 1 + length]; labels are all tokens but a window's first.
      mask: bool[count, length], the labels that are to be learned: of responses, what the target
        wrote; None for all of them.
      top: at each label, meaningless where `mask` is False; None if it is not stored or was not
        asked for.
    """

    tokens: np.ndarray
    mask: np.ndarray | None = None
    top: Top | None = None


class Data(Protocol):
    """What a run draws its batches from, e.g. a `Mixture` or a `ResponseSource`."""

    def batch_at(self, *, seed: int, step: int, batch_size: int, length: int) -> Windows:
        """The batch of a step, a function of (seed, step) alone; every batch has the same fields.

        Raises:
          ConfigError: there is too little to draw from.
        """
        ...


def join(parts: list[Windows]) -> Windows:
    """Windows one after the other, without `top`; a part without a mask has all its labels."""
    tokens = np.concatenate([part.tokens for part in parts])
    if all(part.mask is None for part in parts):
        return Windows(tokens)
    masks = [
        np.ones(part.tokens[:, 1:].shape, bool) if part.mask is None else part.mask
        for part in parts
    ]
    return Windows(tokens, np.concatenate(masks))
