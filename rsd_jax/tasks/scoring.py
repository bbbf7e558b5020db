"""Scores of answers against references: corpus BLEU and ROUGE-2, with intervals over prompts.

BLEU (Papineni et al. 2002) is computed by `sacrebleu` with its default settings (Post 2018), and
ROUGE-2 F1 (Lin 2004) by `rouge-score`: lower case, no stemming, and words of any script (see
`words`), whereas rouge-score itself knows only words of a to z and digits. Both scores are from 0
to 100.
"""

import dataclasses
import unicodedata
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from rsd_jax.errors import ConfigError
from rsd_jax.records.metrics import Interval, percentile_ends, resampled

_JOINERS = "\u200c\u200d"


@dataclasses.dataclass(frozen=True)
class Score:
    """How well answers agree with their references.

    Attributes:
      metric: one of `METRICS`.
      value: 0 to 100.
      interval: ends of the 95 % percentile bootstrap interval over prompts, under a fixed seed.
      num_prompts: number of answers that were scored.
      signature: settings and version of the library, on which the value depends besides the texts.
    """

    metric: str
    value: float
    interval: tuple[float, float]
    num_prompts: int
    signature: str


def score(metric: str, answers: Sequence[str], references: Sequence[str]) -> Score:
    """Scores answers, each against one reference.

    Args:
      metric: "bleu", BLEU of all answers together (which is not the mean BLEU of the answers), or
        "rouge2", the mean of the answers' F1.
      answers: texts without special tokens; a text may be empty.
      references: one per answer.

    Raises:
      ConfigError: the metric is unknown, there are no answers, or the numbers of answers and
        references differ.
    """
    scorer = _scorer(metric, answers, references)
    counts = scorer.counts(answers, references)
    value = scorer.value(counts.sum(axis=0))
    values = [scorer.value(sums) for sums in resampled(len(counts)) @ counts]
    return Score(metric, value, percentile_ends(values), len(counts), scorer.signature())


def score_ratio(
    metric: str, answers: Sequence[str], base: Sequence[str], references: Sequence[str]
) -> tuple[float, Interval | None] | None:
    """The score of answers divided by the score of base answers to the same prompts.

    Args:
      metric, answers, references: as for `score`.
      base: the base answers, in the same order.

    Returns:
      the ratio, and the ends of its 95 % percentile bootstrap interval over prompts. The bootstrap
      is paired: a resample takes the same prompts for both scores. The interval is None if the base
      answers score 0 in some resample. The result is None if the base answers score 0.

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
    """A metric whose score is a function of sums over prompts; the bootstrap resamples the sums."""

    def counts(self, answers: Sequence[str], references: Sequence[str]) -> np.ndarray:
        """[P, C]: for each of P prompts, the C counts that the score depends on."""
        ...

    def value(self, sums: np.ndarray) -> float:
        """The score, 0 to 100, of prompts whose counts add up to `sums`."""
        ...

    def signature(self) -> str: ...


class _Bleu:
    """BLEU; the counts are those of n-grams and lengths that sacrebleu takes of each sentence.

    The intervals do not come from `n_bootstrap` of sacrebleu, because its seed is an environment
    variable and its interval is symmetric.
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


def words(text: str) -> list[str]:
    """The words of a text in lower case: runs of letters, combining marks and numbers.

    For ASCII text, the words of rouge-score. Text is composed first (NFC), so that "ö" is one
    letter, however it is written. Joiners inside words are kept, as Persian and Indic scripts need
    them. Text without spaces between words, such as Chinese, gives long words: every run is one.
    """
    composed = unicodedata.normalize("NFC", text.lower())
    kept = (c if unicodedata.category(c)[0] in "LMN" or c in _JOINERS else " " for c in composed)
    return [word for word in "".join(kept).split() if word.strip(_JOINERS)]


class _Words:
    """`words` as a tokenizer of rouge-score."""

    def tokenize(self, text: str) -> list[str]:
        return words(text)


class _Rouge2:
    """ROUGE-2; the counts of an answer are its F1 and 1, so that the score is a mean."""

    def counts(self, answers: Sequence[str], references: Sequence[str]) -> np.ndarray:
        from rouge_score.rouge_scorer import RougeScorer

        scorer = RougeScorer(["rouge2"], use_stemmer=False, tokenizer=_Words())
        pairs = zip(answers, references, strict=True)
        return np.asarray(
            [[scorer.score(target=r, prediction=a)["rouge2"].fmeasure, 1.0] for a, r in pairs]
        )

    def value(self, sums: np.ndarray) -> float:
        return float(100 * sums[0] / sums[1])

    def signature(self) -> str:
        import importlib.metadata

        version = importlib.metadata.version("rouge-score")
        return f"nrefs:1|measure:f1|stem:no|version:{version}|words:unicode"


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
