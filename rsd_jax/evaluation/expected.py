"""Expected tokens per block, of every lossless verifier on the trees of one verifier's run.

The method's own verifier decides, so it chooses the contexts. What the others would have produced
is computed, not drawn, see `rsd_jax.verifiers.expected`. All verifiers thus see the same trees, and
none of them is measured with the noise of acceptance.
"""

import dataclasses

import jax
import numpy as np

from rsd_jax.core.tree import DraftTree
from rsd_jax.engine.job import Job
from rsd_jax.engine.phases import DecodeOptions
from rsd_jax.engine.results import GenerateResult
from rsd_jax.errors import ConfigError
from rsd_jax.evaluation.observed import observed_run
from rsd_jax.evaluation.root_acceptance import (
    RootAcceptance,
    has_optimum,
    joined,
    root_acceptance,
)
from rsd_jax.verifiers.base import TargetLaws, Verifier
from rsd_jax.verifiers.expected import expected_tokens


@dataclasses.dataclass(frozen=True)
class ExpectedTokens:
    """What the blocks of a run were expected to produce, given their trees.

    Attributes:
      sums: f64[P] by verifier, expected tokens summed over the blocks of each prompt.
      result: what `generate` returns, with the blocks of each prompt.
      roots: None unless it was asked for.
    """

    sums: dict[str, np.ndarray]
    result: GenerateResult
    roots: RootAcceptance | None = None


@dataclasses.dataclass(frozen=True)
class _TokensOf:
    """The `Measure` of one verifier."""

    verifier: Verifier

    @property
    def shape(self) -> tuple[int, ...]:
        return ()

    def __call__(self, tree: DraftTree, target: TargetLaws, options: DecodeOptions) -> jax.Array:
        return expected_tokens(self.verifier, tree, target, eos_ids=options.eos_ids)


def expected_run(
    job: Job, verifiers: dict[str, Verifier], *, optimum_blocks: int = 0
) -> ExpectedTokens:
    """Decodes the batches of a job, see `observed_run`.

    Args:
      job: from `prepare`; the verifier of its method decides.
      verifiers: by name, each with `stops`; see `lossless_verifiers` of `engine.methods`.
      optimum_blocks: M, the blocks of each prompt whose roots are held against the optimum, the
        first ones. The device holds 8 M V bytes for each row meanwhile.

    Raises:
      ConfigError: a verifier has no `stops`, or `optimum_blocks` is positive and the method has no
        optimum, see `has_optimum`, or is greedy.
      NonFiniteLogitsError: as `generate`.
    """
    drafter = job.engine.drafter
    if optimum_blocks and (job.options.target_warp.greedy or not has_optimum(drafter)):
        raise ConfigError(
            f"optimum_blocks={optimum_blocks} needs children of the root that are drawn, at "
            "T > 0, i.i.d. or without replacement; set it to 0"
        )
    measures = tuple(_TokensOf(verifier) for verifier in verifiers.values())
    run = observed_run(job, measures, root_blocks=optimum_blocks)
    found = [root_acceptance(drafter, verifiers, *each) for each in run.roots]
    sums = dict(zip(verifiers, run.sums, strict=True))
    return ExpectedTokens(sums, run.result, joined(found) if found else None)
