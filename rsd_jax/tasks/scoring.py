"""Answers against references: corpus BLEU and ROUGE-2, with intervals over prompts.

BLEU (Papineni et al. 2002) as `sacrebleu` computes it by default (Post 2018); ROUGE-2 F1 (Lin
2004) as `rouge-score` does by default: lower case, a to z and digits only, no stemming. Both from
0 to 100.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from rsd_jax.errors import ConfigError
from rsd_jax.records.metrics import Interval, percentile_ends, resampled


@dataclasses.dataclass(frozen=True)
class Score:
    """How well answers agree with their references.

    Attributes:
      metric: one of `METRICS`.
      value: 0 to 100.
      interval: ends of the 95 % percentile bootstrap interval over prompts, under a fixed seed.
      num_prompts: answers that were scored.
      signature: what the value depends on besides the texts: settings and version of the library.
    """

    metric: str
    value: float
    interval: tuple[float, float]
    num_prompts: int
    signature: str


def score(metric: str, answers: Sequence[str], references: Sequence[str]) -> Score:
    """Scores answers, each against one reference.

    Args:
      metric: "bleu" of all answers together (the mean of sentences' BLEU is another number), or
        "rouge2", the mean of the answers' F1.
      answers: what is scored, without special tokens; may be empty strings.
      references: one per answer.

    Raises:
      ConfigError: the metric is unknown, there are no answers, or not one reference for each.
    """
    scorer = _scorer(metric, answers, references)
    counts = scorer.counts(answers, references)
    value = scorer.value(counts.sum(axis=0))
    values = [scorer.value(sums) for sums in resampled(len(counts)) @ counts]
    return Score(metric, value, percentile_ends(values), len(counts), scorer.signature())


def score_ratio(
    metric: str, answers: Sequence[str], base: Sequence[str], references: Sequence[str]
) -> tuple[float, Interval | None] | None:
    """The score of answers over that of other answers to the same prompts.

    Args:
      metric, answers, references: as for `score`.
      base: the other answers, in the same order.

    Returns:
      the ratio, and the ends of its 95 % percentile bootstrap interval over prompts, paired: a
      resample takes the same prompts for both. No interval if the other answers score 0 in some
      resample, and nothing if they score 0 altogether: the ratio has no bound then.

    Raises:
      ConfigError: as `score`.
    """
    scorer = _scorer(metric, answers, references)
    _scorer(metric, base, references)
    ours, theirs = scorer.counts(answers, references), scorer.counts(base, references)
    weights = np.concatenate([np.ones((1, len(ours)), np.int64), resampled(len(ours))])
    above, below = (
        np.asarray([scorer.value(sums) for sums in weights @ counts]) for counts in (ours, theirs)
    )
    if below[0] == 0:
        return None
    ends = percentile_ends(above[1:] / below[1:]) if below.all() else None
    return float(above[0] / below[0]), ends


class _Scorer(Protocol):
    """A score that is a function of sums over prompts, which is what the bootstrap resamples."""

    def counts(self, answers: Sequence[str], references: Sequence[str]) -> np.ndarray:
        """[P, C], what the score depends on, prompt by prompt."""
        ...

    def value(self, sums: np.ndarray) -> float:
        """The score, 0 to 100, of prompts whose counts add up to these."""
        ...

    def signature(self) -> str: ...


class _Bleu:
    """The counts of n-grams and lengths, as sacrebleu takes them of each sentence.

    Not resampled by `n_bootstrap` of sacrebleu, whose seed is an environment variable and whose
    interval is symmetric.
    """

    def __init__(self):
        from sacrebleu.metrics import BLEU

        self._bleu = BLEU()

    def counts(self, answers: Sequence[str], references: Sequence[str]) -> np.ndarray:
        scores = [
            self._bleu.corpus_score([answer], [[reference]])
            for answer, reference in zip(answers, references, strict=True)
        ]
        return np.asarray([[*s.counts, *s.totals, s.sys_len, s.ref_len] for s in scores])

    def value(self, sums: np.ndarray) -> float:
        orders = self._bleu.max_ngram_order
        answer_length, reference_length = sums[-2:].tolist()
        whole = self._bleu.compute_bleu(
            sums[:orders].tolist(),
            sums[orders:-2].tolist(),
            answer_length,
            reference_length,
            smooth_method=self._bleu.smooth_method,
        )
        return float(whole.score)

    def signature(self) -> str:
        return str(self._bleu.get_signature())


class _Rouge2:
    """The F1 of each answer, and 1."""

    def counts(self, answers: Sequence[str], references: Sequence[str]) -> np.ndarray:
        from rouge_score.rouge_scorer import RougeScorer

        scorer = RougeScorer(["rouge2"], use_stemmer=False)
        pairs = zip(answers, references, strict=True)
        return np.asarray(
            [[scorer.score(target=r, prediction=a)["rouge2"].fmeasure, 1.0] for a, r in pairs]
        )

    def value(self, sums: np.ndarray) -> float:
        return float(100 * sums[0] / sums[1])

    def signature(self) -> str:
        import importlib.metadata

        version = importlib.metadata.version("rouge-score")
        return f"nrefs:1|measure:f1|stem:no|version:{version}"


_SCORERS: dict[str, Callable[[], _Scorer]] = {"bleu": _Bleu, "rouge2": _Rouge2}
METRICS = tuple(_SCORERS)


def _scorer(metric: str, answers: Sequence[str], references: Sequence[str]) -> _Scorer:
    if metric not in METRICS:
        raise ConfigError(f"metric={metric!r} must be one of {METRICS}")
    if len(answers) != len(references):
        raise ConfigError(
            f"got {len(answers)} answers for {len(references)} references; give one of each per "
            "prompt"
        )
    if len(answers) == 0:
        raise ConfigError("answers is empty; give at least one")
    return _SCORERS[metric]()
