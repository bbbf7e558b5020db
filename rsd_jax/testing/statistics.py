"""A chi-square test of counts against an exact law, with its false-alarm rate and its power.

Needs scipy, which comes with JAX.
"""

import dataclasses

import numpy as np

_SMALLEST_EXPECTED = 10.0
"""Categories with smaller expected counts are pooled, so that the statistic is chi-square."""


@dataclasses.dataclass(frozen=True)
class ChiSquare:
    """Outcome of a test.

    Attributes:
      statistic: infinite if a category with probability 0 occurred.
      critical: value that a correct sample exceeds with the stated false-alarm rate.
      degrees: degrees of freedom.
      tv: total variation between the empirical and the expected law.
    """

    statistic: float
    critical: float
    degrees: int
    tv: float

    @property
    def passed(self) -> bool:
        return self.statistic <= self.critical


def chi_square(counts: np.ndarray, law: np.ndarray, *, false_alarm: float) -> ChiSquare:
    """Tests counts f64[C] against probabilities f64[C].

    Args:
      counts: observed counts.
      law: expected law, sums to 1; a count in a category with probability 0 fails the test.
      false_alarm: probability that a correct sample fails.
    """
    from scipy.stats import chi2

    counts, law = np.asarray(counts, float), np.asarray(law, float)
    np.testing.assert_allclose(law.sum(), 1.0, atol=1e-6)
    total = counts.sum()
    tv = float(0.5 * np.abs(counts / total - law).sum())
    observed, expected = _pooled(counts, law * total)
    impossible = counts[law <= 0.0].sum() > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(expected > 0.0, (observed - expected) ** 2 / expected, 0.0)
    degrees = max(int((expected > 0.0).sum()) - 1, 1)
    return ChiSquare(
        statistic=float("inf") if impossible else float(terms.sum()),
        critical=float(chi2.isf(false_alarm, degrees)),
        degrees=degrees,
        tv=tv,
    )


def power(tv: float, samples: int, degrees: int, *, false_alarm: float) -> float:
    """Least probability that the test detects a law at total variation `tv`.

    The noncentrality of the statistic is samples * sum (p' - p)^2 / p, which is at least
    samples * 4 tv^2. For samples >= 25 / tv^2 the noncentrality is at least 100.
    """
    from scipy.stats import chi2, ncx2

    return float(ncx2.sf(chi2.isf(false_alarm, degrees), degrees, 4.0 * samples * tv**2))


def _pooled(counts: np.ndarray, expected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    small = expected < _SMALLEST_EXPECTED
    return (
        np.append(counts[~small], counts[small].sum()),
        np.append(expected[~small], expected[small].sum()),
    )
