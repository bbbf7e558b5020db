"""Tasks: prompts are the same everywhere, not seen in training, and spelled and cut correctly."""

import dataclasses
import json
import platform

import pytest

from rsd_jax.distillation.data import corpus
from rsd_jax.distillation.data.corpus import SourceFile
from rsd_jax.distillation.data.functions import (
    cut_docstring_prompts,
    docstring_examples,
    functions,
)
from rsd_jax.errors import ConfigError
from rsd_jax.tasks import TASKS, get_task
from rsd_jax.tasks.base import METRICS
from rsd_jax.tasks.docstrings import DOCSTRING_PROMPTS, MARKER
from rsd_jax.tasks.number_words import integers, is_test_number, number_words_prompt, spell
from rsd_jax.tasks.prompts import Prompt, load_prompts

_SIZES = {"completion": 48, "docstrings": 174, "number_words": None}
_FIRST = {
    "completion": ("asyncio/futures.py:1", '"""A Future class similar', "_CANCELLED = base_"),
    "docstrings": (
        "asyncio/futures.py:119",
        "def get_loop(self):\n    loop = self._loop\n    if loop is None:\n"
        '        raise RuntimeError("Future object is not initialized.")\n'
        "    return loop\n# Summary:",
        " Return the event loop the Future is bound to.",
    ),
    "number_words": (
        "number_words/test/0",
        "English: three thousand four hundred and fifty-one, seventy-five thousand and "
        "forty-four, two thousand nine hundred and thirty-seven, four hundred and sixty thousand "
        "nine hundred and ninety-six, eight thousand seven hundred and fifty-two, two hundred and "
        "eighty-five thousand three hundred and forty-five\nGerman:",
        " dreitausendvierhunderteinundfünfzig, fünfundsiebzigtausendvierundvierzig, "
        "zweitausendneunhundertsiebenunddreißig, vierhundertsechzigtausendneunhundertsechsund"
        "neunzig, achttausendsiebenhundertzweiundfünfzig, zweihundertfünfundachtzigtausenddrei"
        "hundertfünfundvierzig",
    ),
}
# Spelled by hand.
_SPELLED = {
    0: ("zero", "null"),
    1: ("one", "eins"),
    16: ("sixteen", "sechzehn"),
    17: ("seventeen", "siebzehn"),
    21: ("twenty-one", "einundzwanzig"),
    30: ("thirty", "dreißig"),
    100: ("one hundred", "einhundert"),
    101: ("one hundred and one", "einhunderteins"),
    1000: ("one thousand", "eintausend"),
    1001: ("one thousand and one", "eintausendeins"),
    1100: ("one thousand one hundred", "eintausendeinhundert"),
    21000: ("twenty-one thousand", "einundzwanzigtausend"),
    100000: ("one hundred thousand", "einhunderttausend"),
    101000: ("one hundred and one thousand", "einhunderteinstausend"),
    999999: (
        "nine hundred and ninety-nine thousand nine hundred and ninety-nine",
        "neunhundertneunundneunzigtausendneunhundertneunundneunzig",
    ),
}


@pytest.mark.parametrize("name", TASKS)
def test_a_task_gives_the_same_prompts_everywhere(name):
    task = get_task(name)
    assert task.name == name
    assert task.metric is None or task.metric in METRICS
    prompts = task.test_prompts(20)
    assert prompts == task.test_prompts(21)[:20]
    assert len({prompt.name for prompt in prompts}) == 20
    first, (name, text, reference) = prompts[0], _FIRST[name]
    assert first.name == name
    assert first.text.startswith(text)
    assert first.reference.startswith(reference)
    if task.metric is not None:
        assert (first.text, first.reference) == (text, reference)
        assert task.answer(first.reference + "\nEnglish: two") == reference.strip()
        assert task.answer("\n") == ""


@pytest.mark.parametrize(("name", "size"), _SIZES.items())
def test_what_cannot_be_asked_for_is_named(name, size):
    with pytest.raises(ConfigError, match="count=0 must be at least 1"):
        get_task(name).test_prompts(0)
    if size is not None:
        assert len(get_task(name).test_prompts(size)) == size
        with pytest.raises(ConfigError, match=rf"{name!r} has {size} test prompts"):
            get_task(name).test_prompts(size + 1)


def test_bad_tasks_are_named():
    with pytest.raises(ConfigError, match=r"unknown task 'xsam'.*'completion'"):
        get_task("xsam")
    with pytest.raises(ConfigError, match="metric='rouge'"):
        dataclasses.replace(TASKS["docstrings"], metric="rouge")
    with pytest.raises(ConfigError, match="max_new_tokens=0"):
        dataclasses.replace(TASKS["docstrings"], max_new_tokens=0)
    with pytest.raises(ConfigError, match="split='dev'"):
        number_words_prompt("dev", 0)
    with pytest.raises(ConfigError, match="index=-1"):
        number_words_prompt("train", -1)


@pytest.mark.parametrize(("number", "words"), _SPELLED.items())
def test_spelling(number, words):
    assert (spell(number, "en"), spell(number, "de")) == words


def test_number_words_splits_share_no_large_integer():
    train, test = ([integers(split, i) for i in range(2000)] for split in ("train", "test"))
    assert integers("train", 0) == [10, 573, 1, 87742, 5062, 94765, 611]
    for examples, shortest, large_is_test in ((train, 1, False), (test, 5, True)):
        assert {len(numbers) for numbers in examples} == set(range(shortest, 9))
        for numbers in examples:
            large = [number for number in numbers if number >= 1000]
            assert large
            assert {is_test_number(number) for number in large} == {large_is_test}
        # Every magnitude about as often as every other.
        digits = [len(str(number)) for numbers in examples for number in numbers]
        shares = [digits.count(d) / len(digits) for d in range(1, 7)]
        assert sum(shares) == pytest.approx(1.0)
        assert 0.14 < min(shares) <= max(shares) < 0.19
        assert len({tuple(numbers) for numbers in examples}) == len(examples)
    # These must never change, or old models would have seen the test examples.
    assert [n for n in range(1000, 1060) if is_test_number(n)] == [1002, 1003, 1012, 1051, 1055]
    assert not any(map(is_test_number, range(1000)))


_MODULE = '''
class Queue:
    @property
    async def size(self):
        """Return the number of items.

        And more.
        """

        # é is in a comment.
        return len(self)

    def put(self, item):
        r"""Put an item into the queue."""
        self.items.append(item)\n\f
    def stub(self):
        """Return what a subclass knows."""
        raise NotImplementedError

    def unfinished(self):
        """Return the first item that is waiting for a consumer or,
        if there is none, None.
        """
        return None

    def one_line(self): "Return the number seven."; return 7

    def old(self):
        """Deprecated since version 3.3 of Python."""
        return None

    def short(self):
        """Do it."""
        return None

    def bare(self):
        return None
'''


def _usable(text: str, name: str = "a.py") -> list[tuple[str, str]]:
    return [(f.source, f.summary) for f in functions(SourceFile(name, text)) if f.usable]


def test_functions_lose_their_docstring_and_their_indentation():
    put = ("def put(self, item):\n    self.items.append(item)", "Put an item into the queue.")
    assert _usable(_MODULE) == [put]
    size = (
        "@property\nasync def size(self):\n\n    # e is in a comment.\n    return len(self)",
        "Return the number of items.",
    )
    assert _usable(_MODULE.replace("é", "e")) == [size, put]
    assert _usable("def f(:\n") == []
    body = "".join(f"    value_{i} = call(value_{i - 1})\n" for i in range(1, 100))
    [(source, _)] = _usable(f'def f():\n    """Return the last of many values."""\n{body}')
    assert 350 < len(source) <= 400
    assert source.startswith("def f():\n    value_1 = call(value_0)\n")
    assert body.splitlines()[len(source.splitlines()) - 2] == source.splitlines()[-1]


def test_held_out_functions_are_unlike_those_of_training_files():
    def function(body: str, summary: str) -> str:
        return f'def f(a):\n    """{summary}"""\n    return {body}\n\n\n'

    shipped = load_prompts(DOCSTRING_PROMPTS)[0]
    train = (
        function("a + 1", "Return one more than that.")
        + function("a + 1", "Return the same in other words.")
        + function("a + 2", "Return one more than that.")
        + function("a + 3", "Short.")
        + function("a + 4", shipped.reference.strip().upper().capitalize())
    )
    held_out = (
        function("a + 1", "Return something else than that.")  # source as in training
        + function("a + 3", "Return three more than that.")  # likewise, although not usable there
        + function("a + 5", "Return ONE more than that")  # summary as in training
        + function("a + 6", "Return six more than that.")
        + function("a + 6", "Return six more than this.")
        + function("a + 7", "Return six more than that.")
    )
    files = [SourceFile("turtle.py", held_out), SourceFile("os.py", train)]
    assert [file.held_out for file in files] == [True, False]
    examples = docstring_examples(files)
    assert [p.name for p in examples["train"]] == ["os.py:1", "os.py:11"]
    text = f"def f(a):\n    return a + 6{MARKER}"
    expected = [Prompt("turtle.py:16", text, " Return six more than that.")]
    assert examples["heldout"] == expected
    assert cut_docstring_prompts(examples["heldout"], per_file=3) == expected


def test_shipped_docstrings_are_held_out():
    records = [json.loads(line) for line in DOCSTRING_PROMPTS.read_text().splitlines()]
    for record in records:
        assert list(record) == ["name", "text", "reference"]
        assert corpus.is_held_out(record["name"].rpartition(":")[0])
        assert record["text"].endswith(MARKER)
        assert record["text"].count(MARKER) == 1
        assert record["reference"].startswith(" ")
        assert record["reference"].strip() not in record["text"]
    for field in ("name", "text", "reference"):
        assert len({record[field] for record in records}) == len(records)
    examples = docstring_examples(corpus.read_files())
    for field in ("text", "reference"):
        seen = {getattr(example, field) for example in examples["train"]}
        assert not {record[field] for record in records} & seen
    if platform.python_version() == "3.11.7":  # what the file was cut from
        assert cut_docstring_prompts(examples["heldout"]) == load_prompts(DOCSTRING_PROMPTS)
