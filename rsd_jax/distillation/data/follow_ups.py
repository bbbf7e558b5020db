"""Longer prompts, made from answers of the target: second turns, and texts to work on.

The first messages of a chat are short. A draft that has only seen answers to these is not prepared
for long prompts, or for answers that repeat, sum up or translate a part of the prompt. No text of
others is used: the texts are the target's own answers, and German sentences of our own making.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from rsd_jax.distillation.data.template_prompts import listed, pick
from rsd_jax.errors import ConfigError, positive_integer
from rsd_jax.text.chat import ASSISTANT, USER, Conversation, Message

_SECOND = (
    "Say that again in simpler words.",
    "Make it shorter.",
    "Give an example.",
    "Write the same as a list.",
    "Why is that so?",
    "What would a critic say about this?",
    "Rewrite your answer for a child.",
    "Add two more points.",
    "Are you sure? Go through your answer step by step.",
    "Thank you. What should I read next?",
    "Turn this into a short dialogue.",
    "Which part of this matters most?",
)
_SUM_UP = (
    "Sum up this text in two or three sentences.\n\n{text}",
    "What is this text about? Name its main points.\n\n{text}",
    "{text}\n\nGive a short summary of the text above.",
    "Read the following text and tell me what it says in a few words.\n\n{text}",
)
_ANSWER = (
    "Here are some texts.\n\n{text}\n\nAnswer with the help of these texts: {question}",
    "{question}\n\nUse what follows.\n\n{text}",
)
_TRANSLATE = (
    "Translate from {source} to {language}: {text}",
    "Give me this text in {language}.\n\n{text}",
    "What does this mean in {language}?\n\n{text}",
)
_LANGUAGES = ("German", "French", "Spanish", "Italian")
_WHO = listed(
    "Der Bürgermeister, Die Regierung, Eine junge Ärztin, Der Lehrer, Unsere Nachbarin, Die "
    "Polizei, Ein alter Fischer, Die Mannschaft, Der Verein, Das Unternehmen, Die Kinder der "
    "Schule, Der Bäcker an der Ecke, Die Forscherin, Ein Sprecher der Bank, Die "
    "Stadtverwaltung"
)
_DID = listed(
    "hat den neuen Plan vorgestellt, will die alte Brücke erneuern, sucht eine größere "
    "Wohnung, hat gestern einen Preis gewonnen, spricht über die Folgen der Krise, wird das "
    "Gebäude verkaufen, erzählte von der langen Reise, möchte mehr Bäume pflanzen, hat die "
    "Ergebnisse geprüft, konnte das Spiel nicht gewinnen, warnt vor höheren Preisen, hilft "
    "den Menschen im Dorf, baut seit Jahren an diesem Schiff, hat die Frage noch nicht "
    "beantwortet"
)
_WHEN = listed(
    "Am Montag, Nach dem Regen, Im vergangenen Jahr, Seit einigen Wochen, Trotz der Kälte, "
    "Kurz vor Weihnachten, In den nächsten Tagen, Wegen des Streiks, Zum ersten Mal, Bis zum "
    "Sommer"
)
_SAID = listed(
    "wie die Zeitung berichtet, weil das Geld fehlt, obwohl viele dagegen waren, damit alle "
    "davon lernen, und niemand hatte damit gerechnet, sagte sie am Abend, ohne ein Wort zu "
    "verlieren, wenn das Wetter es erlaubt, und das war erst der Anfang, so steht es in dem "
    "Bericht"
)
_ENDS = ".!?\u3002\uff01\uff1f"  # with those of Chinese and Japanese
_MOST_TEXTS = 4


class Answered(NamedTuple):
    """A message of the user and the target's answer."""

    message: str
    answer: str


def follow_ups(answered: Sequence[Answered], count: int, *, seed: int = 0) -> list[Conversation]:
    """`count` conversations whose last message is a request that needs what stands before it.

    A fourth each: a second turn, a text to sum up, one to four texts with a question about one of
    them, and a text to translate, half of these from German.

    Args:
      answered: what the target was asked and answered. An answer is used up to the end of its last
        whole sentence, or whole if no sentence of it ends; an empty one is not used.
      count: how many.
      seed: of the choice; the conversations for a smaller `count` open those for a larger one.

    Raises:
      ConfigError: `count` is no positive integer, or fewer than four answers can be used.
    """
    positive_integer("count", count)
    pairs = [Answered(each.message, _sentences(each.answer)) for each in answered]
    pairs = [each for each in pairs if each.answer]
    if len(pairs) < _MOST_TEXTS:
        raise ConfigError(
            f"follow_ups needs {_MOST_TEXTS} answers that are not empty, and there are "
            f"{len(pairs)}; answer more prompts"
        )
    rng = np.random.default_rng(seed)
    kinds = itertools.cycle(_KINDS)
    return [next(kinds)(pairs, rng) for _ in range(count)]


def _second_turn(pairs: Sequence[Answered], rng: np.random.Generator) -> Conversation:
    first = _some(pairs, rng, 1)[0]
    return (
        Message(USER, first.message),
        Message(ASSISTANT, first.answer),
        Message(USER, pick(rng, _SECOND)),
    )


def _to_sum_up(pairs: Sequence[Answered], rng: np.random.Generator) -> Conversation:
    texts = _some(pairs, rng, int(rng.integers(1, _MOST_TEXTS)))
    text = "\n\n".join(each.answer for each in texts)
    return (Message(USER, pick(rng, _SUM_UP).format(text=text)),)


def _to_answer(pairs: Sequence[Answered], rng: np.random.Generator) -> Conversation:
    texts = _some(pairs, rng, int(rng.integers(1, 1 + _MOST_TEXTS)))
    asked = texts[int(rng.integers(len(texts)))].message
    text = "\n\n".join(f"Text {n}: {each.answer}" for n, each in enumerate(texts, start=1))
    return (Message(USER, pick(rng, _ANSWER).format(text=text, question=asked)),)


def _to_translate(pairs: Sequence[Answered], rng: np.random.Generator) -> Conversation:
    if rng.random() < 0.5:
        source, language, text = "German", "English", _german(rng)
    else:
        source, language = "English", pick(rng, _LANGUAGES)
        text = _some(pairs, rng, 1)[0].answer.split("\n\n")[0]
    asked = pick(rng, _TRANSLATE).format(source=source, language=language, text=text)
    return (Message(USER, asked),)


_KINDS: tuple[Callable[[Sequence[Answered], np.random.Generator], Conversation], ...] = (
    _second_turn,
    _to_sum_up,
    _to_answer,
    _to_translate,
)


def _some(pairs: Sequence[Answered], rng: np.random.Generator, count: int) -> list[Answered]:
    return [pairs[int(at)] for at in rng.choice(len(pairs), count, replace=False)]


def _sentences(text: str) -> str:
    """The text up to the end of its last whole sentence, or all of it if none ends."""
    end = max(text.rfind(mark) for mark in _ENDS)
    return (text if end < 0 else text[: end + 1]).strip()


def _german(rng: np.random.Generator) -> str:
    """One to three sentences."""
    sentences = []
    for _ in range(int(rng.integers(1, 4))):
        who, did, said = pick(rng, _WHO), pick(rng, _DID), pick(rng, _SAID)
        if rng.random() < 0.5:
            sentences.append(f"{who} {did}, {said}.")
            continue
        verb, rest = did.split(" ", 1)
        who = who[0].lower() + who[1:]
        sentences.append(f"{pick(rng, _WHEN)} {verb} {who} {rest}, {said}.")
    return " ".join(sentences)
