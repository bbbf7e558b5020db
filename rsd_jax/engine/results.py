"""What `generate` returns."""

import dataclasses

import numpy as np

from rsd_jax.records.blocks import BlockRecord

FINISH_LENGTH = "length"
FINISH_EOS = "eos"
FINISH_ERROR = "error"


@dataclasses.dataclass(frozen=True)
class GenerateStats:
    """Counts per row (see `rsd_jax.engine.state.DecodeStats`) and the block efficiency.

    Attributes:
      blocks: i32[B], blocks, which are target calls.
      drafted: i32[B], draft passes of the row's blocks, see `Drafter.passes_of`.
      produced: i32[B], tokens produced; the last block counts whole unless EOS cut it.
      accepted_depths: i32[B, D + 1], entry d counts the blocks with d accepted nodes.
      accepted_ranks: i32[B, K], entry k counts the accepted nodes of which k earlier siblings
        were rejected.
      empty_residuals: i32[B], children that were accepted because the residual after them would
        have had no mass; 0 unless the draft's law equals the target's, or, with coupling, traversal
        and block, the children of a node are all the tokens that the target can emit there.
    """

    blocks: np.ndarray
    drafted: np.ndarray
    produced: np.ndarray
    accepted_depths: np.ndarray
    accepted_ranks: np.ndarray
    empty_residuals: np.ndarray

    @property
    def block_efficiency(self) -> float:
        """Tokens produced per target call, a ratio of sums over all rows; NaN without calls."""
        calls = int(self.blocks.sum())
        return float(self.produced.sum() / calls) if calls else float("nan")


@dataclasses.dataclass(frozen=True)
class GenerateResult:
    """New tokens and counts, row by row in the order of the prompts.

    Attributes:
      tokens: new tokens of each row, EOS included, cut at EOS and at max_new_tokens.
      num_tokens: i32[B], number of new tokens of each row.
      finish_reason: "eos", "length" or, in the result of a `NonFiniteLogitsError`, "error".
      stats: counts.
      block_records: the blocks of each row, if `record_blocks` asked for them; else None.
    """

    tokens: list[list[int]]
    num_tokens: np.ndarray
    finish_reason: list[str]
    stats: GenerateStats
    block_records: list[list[BlockRecord]] | None = None


def join_stats(parts: list[GenerateStats]) -> GenerateStats:
    """Stacks the counts of consecutive batches."""
    fields = [field.name for field in dataclasses.fields(GenerateStats)]
    return GenerateStats(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in fields}
    )
