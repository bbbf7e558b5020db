"""Every candidate tree that SWIFT's rule can draw from a table, with its exact probability."""

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from rsd_jax.core.tree import SiblingLaw
from rsd_jax.drafters.backbone import BackboneRule, ScoreStep
from rsd_jax.drafters.tree_law import Levels, Prefix, Table, ordered_samples, prefix_row
from rsd_jax.testing.drawn_trees import DrawnTrees, pack_trees


@dataclasses.dataclass(frozen=True)
class CandidateTrees(BackboneRule):
    """SWIFT's rule with `drawn_trees`, so that the rule's trees can be enumerated.

    The table is the draft's law at temperature 1, so the confidence of a token is its entry.
    """

    @property
    def sibling_laws(self) -> frozenset[SiblingLaw]:
        return frozenset({SiblingLaw.WITHOUT_REPLACEMENT})

    def drawn_trees(self, draft: Table) -> DrawnTrees:
        """All trees drawn from a table."""
        # (probability, levels of prefixes, whether the draft goes on)
        trees: list[tuple[float, Levels, bool]] = [(1.0, (((),),), True)]
        for level in range(self.length):
            grown = []
            for probability, levels, going in trees:
                for weight, nodes, goes_on in self._steps(draft[level], levels[-1][0], going):
                    grown.append((probability * weight, (*levels, nodes), goes_on))
            trees = grown
        return pack_trees(self.shape, ((probability, levels) for probability, levels, _ in trees))

    def _steps(
        self, laws: np.ndarray, chain: Prefix | None, going: bool
    ) -> Iterator[tuple[float, tuple[Prefix | None, ...], bool]]:
        """Each way to draw the level below the chain's last token."""
        if not going or chain is None:
            yield 1.0, (None,) * self.max_count, False
            return
        law = laws[prefix_row(chain, laws.shape[-1])]
        for first in np.flatnonzero(law).tolist():
            above = [law[first] > bound for bound in self.confidences]
            count = self.counts[above.index(True) if True in above else len(above)]
            for probability, tokens in ordered_samples(law, count):
                if tokens[0] == first:
                    nodes = [(*chain, x) for x in tokens]
                    padding = (None,) * (self.max_count - len(nodes))
                    yield probability, (*nodes, *padding), bool(law[first] > self.stop_below)


def table_score_step(draft: tuple[jax.Array, ...]) -> ScoreStep:
    """A `ScoreStep` for `grow_backbone` that reads a table; the carry is i32[B], initially 0.

    Args:
      draft: from `log_tables`.
    """
    vocab, rows = draft[0].shape[-1], jnp.concatenate(draft)
    first = jnp.asarray(np.cumsum([0, *(len(laws) for laws in draft[:-1])]), jnp.int32)

    def score_step(step: jax.Array, tokens: jax.Array, prefix: jax.Array):
        prefix = jnp.where(step > 0, prefix * vocab + tokens, 0)
        return rows[first[step] + prefix], prefix

    return score_step
