"""Does a sample of whole sequences follow an enumerated law? Pearson's chi-square, with its power.

Needs scipy, which comes with the test extra.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

MIN_EXPECTED = 10.0
"""Cells are merged until each expects this many samples, for the chi-square limit to hold."""


@dataclasses.dataclass(frozen=True)
class LawCheck:
    """Outcome of a comparison of samples with a law.

    Attributes:
      samples: how many.
      statistic: Pearson's chi-square over the merged cells; infinite if a sequence of
        probability 0 was seen.
      degrees: its degrees of freedom under the law.
    """

    samples: int
    statistic: float
    degrees: int

    @property
    def p_value(self) -> float:
        """Probability of a statistic at least as large if the samples follow the law."""
        from scipy.stats import chi2

        if not self.degrees:
            return 0.0 if self.statistic else 1.0
        return float(chi2.sf(self.statistic, self.degrees))

    def power(self, tv: float, false_alarm: float) -> float:
        """Least probability of a p-value below `false_alarm` for a law at total variation `tv`.

        The noncentrality of the statistic is samples * sum (p' - p)^2 / p, at least
        4 samples tv^2 (by Cauchy-Schwarz; tv between the laws of the merged cells). With
        samples >= 25 / tv^2 it is 100 or more.
        """
        from scipy.stats import chi2, ncx2

        bound = chi2.isf(false_alarm, self.degrees)
        return float(ncx2.sf(bound, self.degrees, 4 * self.samples * tv**2))


def pool(checks: Sequence[LawCheck]) -> LawCheck:
    """Independent comparisons as one: statistics and degrees of freedom add up."""
    return LawCheck(
        samples=sum(check.samples for check in checks),
        statistic=sum(check.statistic for check in checks),
        degrees=sum(check.degrees for check in checks),
    )


def count_sequences(sequences: np.ndarray, vocab_size: int) -> np.ndarray:
    """int[V ** n] counts of sequences int[samples, n]; the first token is the slowest index."""
    length = sequences.shape[1]
    weights = vocab_size ** np.arange(length - 1, -1, -1)
    return np.bincount(sequences @ weights, minlength=vocab_size**length)


def compare(counts: np.ndarray, law: np.ndarray, min_expected: float = MIN_EXPECTED) -> LawCheck:
    """Compares counts with a law over the same cells.

    Rare cells are merged in the order of their probability, the least likely first, until each
    group expects `min_expected` samples: a choice that does not look at the counts, and groups of
    like probability keep more power than one pool.

    Args:
      counts: int[cells], of any shape.
      law: f64[cells], sums to 1.
      min_expected: of a merged cell.
    """
    counts, law = counts.reshape(-1), law.reshape(-1)
    samples = int(counts.sum())
    possible = law > 0
    if counts[~possible].any():
        return LawCheck(samples, float("inf"), max(int(possible.sum()) - 1, 1))
    observed, expected, groups = 0.0, 0.0, []
    for cell in np.argsort(law, kind="stable")[(~possible).sum() :]:
        observed, expected = observed + counts[cell], expected + samples * law[cell]
        if expected >= min_expected:
            groups.append((observed, expected))
            observed, expected = 0.0, 0.0
    last = groups.pop() if groups else (0.0, 0.0)  # takes what is left over
    groups.append((last[0] + observed, last[1] + expected))
    seen, due = np.asarray(groups, np.float64).T
    return LawCheck(samples, float(((seen - due) ** 2 / due).sum()), len(seen) - 1)


def total_variation(counts: np.ndarray, law: np.ndarray) -> float:
    """Plug-in estimate; biased upwards by sampling noise, about sqrt(cells / samples)."""
    counts, law = counts.reshape(-1), law.reshape(-1)
    return float(0.5 * np.abs(counts / counts.sum() - law).sum())
