"""Tests whether a sample of whole sequences follows an enumerated law; see `statistics`."""

import numpy as np

from rsd_jax.testing.statistics import ChiSquare, chi_square

MIN_EXPECTED = 12.0
"""Sequences are merged until every cell has at least this expected count."""


def count_sequences(sequences: np.ndarray, vocab_size: int) -> np.ndarray:
    """int[V ** n] counts of sequences int[samples, n]; the first token is the slowest index."""
    length = sequences.shape[1]
    weights = vocab_size ** np.arange(length - 1, -1, -1)
    return np.bincount(sequences @ weights, minlength=vocab_size**length)


def merge_rare(
    counts: np.ndarray, law: np.ndarray, min_expected: float = MIN_EXPECTED
) -> tuple[np.ndarray, np.ndarray]:
    """Merges rare cells into groups of similar probability, which keeps more power than one pool.

    Cells are merged from the least likely on, until a group's expected count is `min_expected`; the
    groups thus do not depend on the counts. Impossible cells are merged into one.

    Args:
      counts: int[cells], of any shape.
      law: f64[cells], sums to 1.
      min_expected: least expected count of a group.

    Returns:
      counts and probabilities of the groups.
    """
    counts, law = counts.reshape(-1), law.reshape(-1)
    possible = law > 0
    merged = [(float(counts[~possible].sum()), 0.0)]
    observed, mass, samples = 0.0, 0.0, counts.sum()
    for cell in np.argsort(law, kind="stable")[(~possible).sum() :]:
        observed, mass = observed + counts[cell], mass + law[cell]
        if samples * mass >= min_expected:
            merged.append((observed, mass))
            observed, mass = 0.0, 0.0
    last = merged.pop() if len(merged) > 1 else (0.0, 0.0)  # gets the remaining cells
    merged.append((last[0] + observed, last[1] + mass))
    seen, due = np.asarray(merged, np.float64).T
    return seen, due


def check_joint_law(
    groups: list[np.ndarray], laws: list[np.ndarray], *, false_alarm: float
) -> ChiSquare:
    """Tests sequences after several prompts against the law after each prompt, in one test.

    The cells are pairs (prompt, sequence). As the samples per prompt are fixed, the degrees of
    freedom are overstated by the number of prompts - 1, so the test is conservative.

    Args:
      groups: per prompt, sequences int[samples, n].
      laws: per prompt, f64[V, ..., V] with n axes.
      false_alarm: probability that correct samples fail.
    """
    total = sum(map(len, groups))
    cells = [
        merge_rare(count_sequences(group, law.shape[0]), law)
        for group, law in zip(groups, laws, strict=True)
    ]
    return chi_square(
        np.concatenate([seen for seen, _ in cells]),
        np.concatenate(
            [due * len(group) / total for (_, due), group in zip(cells, groups, strict=True)]
        ),
        false_alarm=false_alarm,
    )
