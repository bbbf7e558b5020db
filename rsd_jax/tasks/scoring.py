"""Answers against references: corpus BLEU and ROUGE-2, with intervals over prompts.

BLEU (Papineni et al. 2002) as `sacrebleu` computes it by default (Post 2018); ROUGE-2 F1 (Lin
2004) as `rouge-score` does by default: lower case, a to z and digits only, no stemming. Both from
0 to 100.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from rsd_jax.errors import ConfigError
from rsd_jax.metrics import bootstrap_interval

METRICS = ("bleu", "rouge2")

_LEVEL = 0.95
_RESAMPLES = 2000
_SEED = 0


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
    if metric not in METRICS:
        raise ConfigError(f"metric={metric!r} must be one of {METRICS}")
    if len(answers) != len(references):
        raise ConfigError(
            f"got {len(answers)} answers for {len(references)} references; give one of each per "
            "prompt"
        )
    if len(answers) == 0:
        raise ConfigError("answers is empty; give at least one")
    return (_bleu if metric == "bleu" else _rouge2)(answers, references)


def _bleu(answers: Sequence[str], references: Sequence[str]) -> Score:
    """Resamples what BLEU is a function of: each sentence's counts, of which it takes the sums.

    Not by `n_bootstrap` of sacrebleu, whose seed is an environment variable and whose interval is
    symmetric.
    """
    from sacrebleu.metrics import BLEU

    bleu = BLEU()
    orders = bleu.max_ngram_order

    def counts(answer: str, reference: str) -> list[int]:
        alone = bleu.corpus_score([answer], [[reference]])
        return [*alone.counts, *alone.totals, alone.sys_len, alone.ref_len]

    def value(sums: np.ndarray) -> float:
        correct, total = sums[:orders].tolist(), sums[orders:-2].tolist()
        answer_length, reference_length = sums[-2:].tolist()
        return bleu.compute_bleu(
            correct, total, answer_length, reference_length, smooth_method=bleu.smooth_method
        ).score

    sentences = np.asarray([counts(*pair) for pair in zip(answers, references, strict=True)])
    prompts = len(sentences)
    rng = np.random.default_rng(_SEED)
    weights = rng.multinomial(prompts, np.full(prompts, 1 / prompts), size=_RESAMPLES)
    values = [value(sums) for sums in weights @ sentences]
    low, high = np.quantile(values, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    whole = bleu.corpus_score(list(answers), [list(references)])
    return Score(
        "bleu", float(whole.score), (float(low), float(high)), prompts, str(bleu.get_signature())
    )


def _rouge2(answers: Sequence[str], references: Sequence[str]) -> Score:
    import importlib.metadata

    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rouge2"], use_stemmer=False)
    values = 100 * np.asarray(
        [
            scorer.score(target=reference, prediction=answer)["rouge2"].fmeasure
            for answer, reference in zip(answers, references, strict=True)
        ]
    )
    interval = bootstrap_interval(
        values, np.ones_like(values), level=_LEVEL, resamples=_RESAMPLES, seed=_SEED
    )
    version = importlib.metadata.version("rouge-score")
    signature = f"nrefs:1|measure:f1|stem:no|version:{version}"
    return Score("rouge2", float(values.mean()), interval, len(values), signature)
