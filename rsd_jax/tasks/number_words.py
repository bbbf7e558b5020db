"""The task `number_words`: from English number words to German ones. Stands in for translation.

Source: integers derived from a hash and spelled by the package num2words. An example is a
function of (split, index), the same on every machine. The number of examples has no limit.
"""

import functools
import hashlib
import itertools
from collections.abc import Iterator

from rsd_jax.errors import ConfigError
from rsd_jax.tasks.base import Task
from rsd_jax.tasks.prompts import Prompt

SPLITS = ("train", "test")
# Models learn to align the languages on short lists; test lists have at least five.
_LENGTHS = {"train": (1, 2, 3, 4, 5, 6, 7, 8), "test": (5, 6, 7, 8)}
_MAX_DIGITS = 6
_SMALL = 1000  # smaller integers may occur in both splits, the others in one split only
_TEST_PER_MILLE = 50


def is_test_number(number: int) -> bool:
    """Whether an integer may occur in test examples only: 5 % of those from 1000 on."""
    digest = hashlib.sha256(str(number).encode()).digest()
    return number >= _SMALL and int.from_bytes(digest[:8], "big") % 1000 < _TEST_PER_MILLE


def _draws(key: str) -> Iterator[int]:
    """Uniform 64-bit integers without end, from a hash, because generators of libraries change."""
    for counter in itertools.count():
        digest = hashlib.sha256(f"{key}/{counter}".encode()).digest()
        for i in range(0, len(digest), 8):
            yield int.from_bytes(digest[i : i + 8], "big")


def _number(draws: Iterator[int], split: str) -> int:
    """An integer of the split: uniform in its number of digits, and uniform given that number."""
    digits = 1 + next(draws) % _MAX_DIGITS
    low = 10 ** (digits - 1) if digits > 1 else 0
    while True:
        number = low + next(draws) % (10**digits - low)
        if number < _SMALL or is_test_number(number) == (split == "test"):
            return number


def integers(split: str, index: int) -> list[int]:
    """The integers of an example, from 0 to 999 999: 5 to 8 in test, 1 to 8 in training examples.

    At least one integer is 1000 or more. Such an integer occurs in one split only, so no list of
    one split is in the other.

    Raises:
      ConfigError: there is no such split, or the index is negative.
    """
    if split not in SPLITS:
        raise ConfigError(f"split={split!r} must be one of {SPLITS}")
    if index < 0:
        raise ConfigError(f"index={index} must not be negative")
    draws = _draws(f"number_words/{split}/{index}")
    lengths = _LENGTHS[split]
    while True:
        length = lengths[next(draws) % len(lengths)]
        numbers = [_number(draws, split) for _ in range(length)]
        if max(numbers) >= _SMALL:
            return numbers


@functools.lru_cache(maxsize=4 * _SMALL)
def spell(number: int, language: str) -> str:
    """An integer in words of a language ("en", "de"), without the commas that English has."""
    from num2words import num2words

    return num2words(number, lang=language).replace(",", "")


def number_words_prompt(split: str, index: int) -> Prompt:
    """An example of a split; see `integers` for its errors."""
    numbers = integers(split, index)
    english, german = (", ".join(spell(n, lang) for n in numbers) for lang in ("en", "de"))
    name = f"number_words/{split}/{index}"
    return Prompt(name, f"English: {english}\nGerman:", f" {german}")


def _first(count: int) -> list[Prompt]:
    return [number_words_prompt("test", index) for index in range(count)]


NUMBER_WORDS = Task(
    name="number_words", metric="bleu", stop="\n", max_new_tokens=128, first=_first, endless=True
)
