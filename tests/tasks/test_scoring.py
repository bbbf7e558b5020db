"""Scores: values computed by hand, and intervals against sacrebleu's."""

import json
import unicodedata

import numpy as np
import pytest

from rsd_jax.errors import ConfigError
from rsd_jax.tasks import TASKS, get_task
from rsd_jax.tasks.base import METRICS
from rsd_jax.tasks.scoring import score, score_ratio, words

_BLEU_ANSWERS = ["a b c d e", "x y", "p q r s"]
_BLEU_REFERENCES = ["a b c d f", "x y z", "p q r t"]
_CAT, _CAT_REFERENCE = "the cat sat", "The cat sat on the mat."


def test_bleu_by_hand():
    """Matches of n-grams, n = 1 to 4, and lengths are summed over sentences before dividing."""
    precisions = np.asarray([4 + 2 + 3, 3 + 1 + 2, 2 + 0 + 1, 1 + 0 + 0]) / [11, 8, 5, 3]
    expected = 100 * np.exp(1 - 12 / 11) * np.prod(precisions) ** 0.25
    measured = score("bleu", _BLEU_ANSWERS, _BLEU_REFERENCES)
    assert measured.value == pytest.approx(expected)
    assert (measured.metric, measured.num_prompts) == ("bleu", 3)
    low, high = measured.interval
    assert 0 <= low < measured.value < high <= 100
    assert measured.signature.startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.")
    # No 4-gram is right: exponential smoothing counts half a match, in the interval as well.
    alone = score("bleu", _BLEU_ANSWERS[2:], _BLEU_REFERENCES[2:])
    assert alone.value == pytest.approx(100 * (3 / 4 * 2 / 3 * 1 / 2 * 1 / 2) ** 0.25)
    assert alone.interval == pytest.approx((alone.value, alone.value))


def test_rouge_by_hand():
    """2 of 2 bigrams of the answer, 2 of 5 of the reference: F1 is 4 / 7. No stemming."""
    cat = score("rouge2", [_CAT], [_CAT_REFERENCE])
    assert cat.value == pytest.approx(100 * 4 / 7)
    assert cat.interval == pytest.approx((cat.value, cat.value))
    answers, references = [_CAT, "", "two cats ran"], [_CAT_REFERENCE, "Nothing here.", "two cat"]
    measured = score("rouge2", answers, references)
    assert measured.value == pytest.approx(100 * 4 / 7 / 3)
    # A third of the resamples' prompts is the one that scores; 1 in 27 has no other.
    assert measured.interval == pytest.approx((0, cat.value))
    assert measured.signature.startswith("nrefs:1|measure:f1|stem:no|version:0.1.")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Öpfel, GRÜN-rot_1!", ["öpfel", "grün", "rot", "1"]),
        ("Мама мыла раму.", ["мама", "мыла", "раму"]),
        # Vowel signs and the virama are combining marks; the joiner stands inside a word.
        ("हिन्दी में क्\u200dष।", ["हिन्दी", "में", "क्\u200dष"]),
        ("東京 ü", ["東京", "ü"]),
        ("\u200d a", ["a"]),
    ],
)
def test_words_of_any_script(text, expected):
    assert words(text) == expected
    decomposed = unicodedata.normalize("NFD", text)
    assert words(decomposed) == [unicodedata.normalize("NFC", word) for word in expected]


def test_rouge_of_any_script():
    for text, other in (("हिन्दी में लिखो", "हिन्दु मां लोख"), ("Мама мыла раму", "Папа мыло рама")):
        assert score("rouge2", [text], [text]).value == pytest.approx(100)
        assert score("rouge2", [other], [text]).value == 0
    assert score("rouge2", ["Äpfel und Birnen"], ["Öpfel und Birnen"]).value == pytest.approx(50)


def test_rouge_of_ascii_is_that_of_rouge_score():
    from rouge_score.tokenize import tokenize

    rng = np.random.default_rng(0)
    texts = ["".join(map(chr, rng.integers(0, 128, 60))) for _ in range(200)]
    texts += [prompt.text for prompt in TASKS["docstrings"].test_prompts(20)]
    for text in texts:
        if text.isascii():
            assert words(text) == tokenize(text, None)


@pytest.mark.parametrize("metric", METRICS)
def test_right_and_empty_answers(metric):
    references = [_CAT_REFERENCE, "A dog ran after another dog."]
    right = score(metric, references, references)
    assert (right.value, *right.interval) == pytest.approx((100, 100, 100))
    empty = score(metric, ["", ""], references)
    assert (empty.value, *empty.interval) == (0, 0, 0)


def test_the_interval_of_bleu_is_that_of_sacrebleu():
    """sacrebleu's interval is symmetric, from 1000 resamples; the tolerance covers both."""
    from sacrebleu.metrics import BLEU

    rng = np.random.default_rng(0)
    references = [prompt.reference for prompt in TASKS["number_words"].test_prompts(40)]
    answers = [
        ", ".join(word for word in text.strip().split(", ") if rng.random() > share)
        for text, share in zip(references, rng.random(40), strict=True)
    ]
    bleu = BLEU()
    theirs = json.loads(
        bleu.corpus_score(answers, [references], n_bootstrap=1000).format(
            signature=str(bleu.get_signature()), is_json=True
        )
    )
    measured = score("bleu", answers, references)
    for metric in METRICS:  # under a fixed seed, or the ends would differ
        assert score(metric, answers, references) == score(metric, answers, references)
    low, high = measured.interval
    assert measured.value == pytest.approx(theirs["score"], abs=0.01)
    assert 4 < high - low < 40
    assert (high - low) / 2 == pytest.approx(theirs["confidence_var"], rel=0.125)
    assert (high + low) / 2 == pytest.approx(theirs["confidence_mean"], abs=(high - low) / 8)


def test_a_ratio_by_hand():
    """F1 of "a b c" and "a b d" against "a b c" is 1 and 1/2: 2 of 2 bigrams, and 1 of 2.

    A resample of two prompts takes the first twice, both, or the second twice, each with
    probability at least 1/4. The ends are therefore the least and the largest ratio.
    """
    right, half = ["a b c", "a b c"], ["a b c", "a b d"]
    ratio, ends = score_ratio("rouge2", right, half, right)
    assert (ratio, *ends) == pytest.approx((4 / 3, 1, 2))
    ratio, ends = score_ratio("rouge2", half, right, right)
    assert (ratio, *ends) == pytest.approx((3 / 4, 1 / 2, 1))
    ratio, _ = score_ratio("bleu", _BLEU_REFERENCES, _BLEU_ANSWERS, _BLEU_REFERENCES)
    assert ratio == pytest.approx(100 / score("bleu", _BLEU_ANSWERS, _BLEU_REFERENCES).value)


@pytest.mark.parametrize("metric", METRICS)
def test_a_ratio_resamples_both_answers_to_a_prompt_together(metric):
    """For equal answers of both, every resample's ratio is exactly 1, whatever the scores."""
    answers = [_CAT_REFERENCE, "The cat sat on a mat today."]
    references = [_CAT_REFERENCE, _CAT_REFERENCE]
    low, high = score(metric, answers, references).interval
    assert low < high
    assert score_ratio(metric, answers, answers, references) == (1, (1, 1))


@pytest.mark.parametrize("metric", METRICS)
def test_a_ratio_to_nothing_has_no_bound(metric):
    """A score of 0 gives no ratio; a score of 0 in some resample gives no interval."""
    references = [_CAT_REFERENCE, _CAT_REFERENCE]
    assert score_ratio(metric, references, ["", ""], references) is None
    ratio, interval = score_ratio(metric, references, [_CAT_REFERENCE, ""], references)
    assert interval is None
    assert ratio == pytest.approx(100 / score(metric, [_CAT_REFERENCE, ""], references).value)
    assert score_ratio(metric, ["", ""], references, references) == (0, (0, 0))


def test_a_task_scores_what_its_model_wrote():
    """What follows an answer is cut off; whitespace around a reference does not count."""
    for name in ("number_words", "docstrings"):
        task = get_task(name)
        prompts = task.test_prompts(5)
        texts = [f"{prompt.reference}\nEnglish: and more" for prompt in prompts]
        measured = task.score(texts, prompts)
        assert (measured.metric, measured.num_prompts) == (task.metric, 5)
        assert measured.value == pytest.approx(100)
        assert task.score(texts[::-1], prompts).value < 50
    with pytest.raises(ConfigError, match="'completion' has no metric"):
        get_task("completion").score(["a"], get_task("completion").test_prompts(1))


def test_what_cannot_be_scored_is_named():
    with pytest.raises(ConfigError, match=r"metric='rouge' must be one of \('bleu', 'rouge2'\)"):
        score("rouge", ["a"], ["a"])
    for metric in METRICS:
        with pytest.raises(ConfigError, match="2 answers for 1 references"):
            score(metric, ["a", "b"], ["a"])
        with pytest.raises(ConfigError, match="2 answers for 1 references"):
            score_ratio(metric, ["a"], ["a", "b"], ["a"])
        with pytest.raises(ConfigError, match="answers is empty"):
            score(metric, [], [])
