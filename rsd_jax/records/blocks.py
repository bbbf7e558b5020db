"""One decoded block as it was: the tree, its probabilities, and what the verifier made of it."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class BlockRecord:
    """One block of one prompt, from `generate` or `stream` with `record_blocks=True`.

    N is the number of node slots and a the number of accepted nodes. Slot 0 is the root, the last
    token before the block. Parents come before their children, and siblings stand in draw order.
    All probabilities are those after the warp; at T = 0, those of the plain softmax at T = 1.

    Attributes:
      block: the number of the block, from 0.
      start: the place of the block's first token in the answer, from 0.
      kept: how many of the block's a + 1 tokens the answer holds; fewer than a + 1 only in the last
        block, which an EOS or `max_new_tokens` may cut.
      tokens: i32[N].
      parents: i32[N], slots; -1 for the root.
      depths: i32[N], 0 for the root.
      valid: bool[N]; the other slots are empty, and their entries mean nothing.
      drawn: of each slot, how its token was drawn at its parent: "iid", "without_replacement" (of
        the valid siblings in earlier slots), "point" (proposed with certainty) or, for all other
        children at T = 0, "likeliest"; "" for the root and for empty slots.
      draft_probs: f32[N], the draft's probability of each node's token, given the parent, whatever
        the siblings; 1 for a point; NaN for the root and for empty slots.
      drawn_probs: f32[N], the probability of the token under the law that it was drawn from, as the
        verifier is given it: without the tokens of earlier siblings where `drawn` says so, and 1
        where nothing was random; NaN as above.
      target_probs: f32[N], the target's probability of each node's token, given the parent; NaN as
        above.
      path: i32[a], the slots of the accepted nodes, from below the root down.
      emitted: the token that the target emitted after the last accepted node.
      emitted_prob: the target's probability of `emitted` there, before any rejection.
    """

    block: int
    start: int
    kept: int
    tokens: np.ndarray
    parents: np.ndarray
    depths: np.ndarray
    valid: np.ndarray
    drawn: tuple[str, ...]
    draft_probs: np.ndarray
    drawn_probs: np.ndarray
    target_probs: np.ndarray
    path: np.ndarray
    emitted: int
    emitted_prob: float

    @property
    def num_accepted(self) -> int:
        """a."""
        return len(self.path)

    @property
    def answer(self) -> list[int]:
        """The tokens of the answer that come from the block: accepted ones, then `emitted`."""
        return [*self.tokens[self.path].tolist(), self.emitted][: self.kept]
