"""Prompts from the user's files, and errors in files and options."""

import dataclasses
import json
import pathlib

import pytest

from rsd_jax.errors import ConfigError
from rsd_jax.tasks import TASKS, get_task
from rsd_jax.tasks.prompts import Prompt, load_prompts, save_prompts
from rsd_jax.tasks.wmt18 import WMT18_DE_EN


def _write(path: pathlib.Path, *lines: dict) -> pathlib.Path:
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), "utf-8")
    return path


def _texts(task) -> list[tuple[str, str, str]]:
    return [(p.name, p.text, p.reference) for p in task.test_prompts(None)]


def test_prompts_of_any_kind(tmp_path):
    path = tmp_path / "own.jsonl"
    lines = ['{"prompt": "def f():\\n", "reference": "    return 1"}', " ", '{"prompt": "b {x}"}']
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    task = get_task("jsonl", path=path)
    first, second = ("own.jsonl:1", "def f():\n", "    return 1"), ("own.jsonl:3", "b {x}", "")
    assert _texts(task) == [first, second]
    assert (task.metric, task.stop, task.template, task.templates) == (
        None,
        None,
        None,
        ("plain", "chat"),
    )
    assert task.answer(" a\n") == " a\n"
    assert get_task("jsonl", path=path, template="plain").template is None
    chat = get_task("jsonl", path=str(path), template="chat")
    assert _texts(chat) == [
        ("own.jsonl:1", "[INST] def f(): [/INST]", " return 1"),
        ("own.jsonl:3", "[INST] b {x} [/INST]", ""),
    ]
    assert (chat.template, chat.answer(" a\n")) == ("chat", "a")

    path = _write(path, {"prompt": "a", "reference": "x y z", "name": "n"})
    scored = dataclasses.replace(get_task("jsonl", path=path, metric="rouge2"), stop="\n")
    assert scored.score(["x y z\nx"], scored.test_prompts(1)).value == pytest.approx(100)
    assert scored.test_prompts(1)[0].name == "n"


def test_a_data_set_from_a_file(tmp_path):
    path = _write(
        tmp_path / "wmt.jsonl",
        {"prompt": "Guten Tag\u2028!", "reference": "Good day!", "name": "first"},
        {"de": "Gute Nacht", "en": "Good night", "id": 7},
    )
    task = get_task("wmt18_de_en", path=path)
    assert (task.metric, task.template) == ("bleu", "base")
    assert _texts(task) == [
        ("first", "German: Guten Tag\u2028!\nEnglish:", " Good day!"),
        ("wmt.jsonl:2", "German: Gute Nacht\nEnglish:", " Good night"),
    ]
    chat = get_task("wmt18_de_en", path=path, template="chat").test_prompts(1)[0]
    assert chat.text == WMT18_DE_EN.templates[1].render(["Guten Tag\u2028!"])

    path = _write(tmp_path / "articles.jsonl", {"prompt": "A"}, {"prompt": "B", "name": "b"})
    bare = get_task("xsum", path=path)
    assert bare.metric is None
    assert [prompt.reference for prompt in bare.test_prompts(2)] == ["", ""]

    dolly = {"instruction": "Do it.", "response": "Done.", "category": "open_qa"}
    path = _write(
        tmp_path / "dolly.jsonl", dolly, dolly | {"context": ""}, dolly | {"context": "It is."}
    )
    task = get_task("dolly", path=path, template="base")
    assert [prompt.text for prompt in task.test_prompts(3)] == [
        *["Instruction: Do it.\n\nResponse:"] * 2,
        "Instruction: Do it.\n\nContext: It is.\n\nResponse:",
    ]
    assert task.answer(" Done.\n\nInstruction: Do more.") == "Done."


_BAD_LINES = {
    "jsonl": [
        (b"", r"own\.jsonl is empty"),
        (b"\n \n", r"own\.jsonl is empty"),
        (b'{"prompt": "a"}\n{"prompt"', r"own\.jsonl, line 2: not JSON"),
        (b'["a"]', "line 1: expected an object, got list"),
        (b'{"prompt": "a"}\n\n{"prompt": "\xff"}', "line 3: not UTF-8"),
        (b'{"text": "a"}', r"line 1: unknown fields \['text'\]; known ones: \['prompt', 'ref"),
        (b'{"name": "a"}', r"line 1: no field 'prompt'; the fields are \['name'\]"),
        (b'{"prompt": 1}', "line 1: the field 'prompt' is int, not a string"),
        (b'{"prompt": " "}', "line 1: the field 'prompt' is blank"),
        (b'{"prompt": "\\ud800"}', "line 1: the field 'prompt' holds a lone surrogate"),
        (b'{"prompt": "a", "reference": 1}', "line 1: the field 'reference' is int"),
        (b'{"prompt": "a", "refrence": "b"}', r"line 1: unknown fields \['refrence'\]"),
        (b'{"prompt": "a", "name": null}', "line 1: the field 'name' is NoneType"),
        (b'{"prompt": "a", "name": "n"}\n' * 2, "line 2: .* 'n' is already used in .*, line 1"),
    ],
    "xsum": [
        (b'{"prompt": "a", "document": "b"}', r"line 1: unknown fields \['document'\]"),
        (b'{"text": "a"}', r"line 1: no field 'prompt' or 'document'; it has \['text'\]"),
        (b'{"document": "a"}', "line 1: no field 'summary'"),
        (b'{"document": "a", "summary": ""}', "line 1: the field 'summary' is blank"),
        (b'{"prompt": "a"}\n{"prompt": "a", "reference": "b"}', "line 2: a reference, unlike .*1"),
        (b'{"document": "a", "summary": "b"}\n{"prompt": "a"}', "line 2: no reference, unlike .*1"),
    ],
    "dolly": [
        (b'{"instruction": "a", "response": "b", "context": 1}', "line 1: the field 'context' is "),
    ],
    "spec_bench": [
        (b'{"category": "a", "turns": ["b"]}', "line 1: the field 'question_id' is None"),
        (b'{"question_id": 1, "turns": ["b"]}', "line 1: no field 'category'"),
        (b'{"question_id": 1, "category": "a", "turns": []}', "line 1: the field 'turns' is not"),
        (b'{"question_id": 1, "category": "a", "turns": "b"}', "line 1: the field 'turns' is not"),
        (b'{"question_id": 1, "category": "a", "turns": ["b", ""]}', "line 1: turn 2 is blank"),
        (b'{"question_id": 1, "category": "a", "turns": ["b"]}\n' * 2, "line 2: the name 'spec_be"),
        (
            b'{"question_id": 1, "category": "a", "turns": ["b"], "reference": ["c", "d"]}',
            "line 1: the field 'reference' is not a list of at most one entry for each of the 1",
        ),
        (
            b'{"question_id": 1, "category": "a", "turns": ["b"], "reference": [1]}',
            "line 1: a reference is neither a string nor",
        ),
        (
            b'{"question_id": 1, "category": "translation", "turns": ["b"]}',
            "line 1: no reference, which 'bleu' needs",
        ),
    ],
    "speed_bench": [
        (b'{"question_id": "a", "turns": ["b"]}', "line 1: no field 'category'"),
        (b'{"question_id": "a", "category": "c"}', "line 1: the field 'turns' is not"),
        (
            b'{"question_id": "a", "category": "c", "turns": ["b", "FULL BENCHMARK DATA SHOULD BE '
            b'FETCHED FROM THE SOURCE USING SPECDEC_BENCH"]}',
            "line 1: a placeholder stands for the question; run the preparation",
        ),
    ],
}


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [(name, *case) for name, cases in _BAD_LINES.items() for case in cases],
)
def test_bad_files_are_named(tmp_path, name, data, message):
    path = tmp_path / "own.jsonl"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=message) as error:
        get_task(name, path=path)
    assert str(path) in str(error.value)


_FILE = object()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("xsam", {}, "unknown task 'xsam'; known tasks: .*'completion'.*'xsum'"),
        ("completion", {"template": "chat"}, "the task 'completion' has only the template 'plain'"),
        ("completion", {"path": "a"}, r"takes no \['path'\]; its options: \['template'\]"),
        ("jsonl", {}, r"the task 'jsonl' needs \['path'\]"),
        ("jsonl", {"path": "nowhere.jsonl"}, r"path='nowhere\.jsonl' is not a file"),
        ("jsonl", {"path": _FILE, "category": "a"}, r"takes no \['category'\]"),
        ("jsonl", {"path": _FILE, "template": "base"}, r"has the templates \['plain', 'chat'\]"),
        ("jsonl", {"path": _FILE, "metric": "rouge"}, "metric='rouge' must be None or one of"),
        ("jsonl", {"path": _FILE, "metric": "bleu"}, "line 1: no field 'reference', which metric="),
        ("xsum", {"template": "plain"}, r"template='plain'.* \['base', 'chat'\]"),
        ("xsum", {"metric": "bleu"}, r"takes no \['metric'\]"),
        ("xsum", {"path": _FILE, "data_dir": "a"}, "path and data_dir"),
        ("spec_bench", {"data_dir": "a"}, r"takes no \['data_dir'\]"),
        ("spec_bench", {}, r"needs \['path'\]"),
    ],
)
def test_what_cannot_be_asked_for_is_named(tmp_path, name, options, message):
    path = _write(tmp_path / "own.jsonl", {"prompt": "a"})
    options = {key: path if value is _FILE else value for key, value in options.items()}
    with pytest.raises(ConfigError, match=message):
        get_task(name, **options)


@pytest.mark.parametrize("name", TASKS)
def test_tasks_that_ship_are_as_they_are(name):
    task = get_task(name, template="plain")
    assert task is get_task(name)
    assert (task.template, task.templates) == (None, ("plain",))
    assert task.follow_up(task.test_prompts(1)[0], ["an answer"]) is None
    if name == "number_words":
        with pytest.raises(ConfigError, match="has no last prompt; give a count"):
            task.test_prompts(None)
    else:
        prompts = task.test_prompts(None)
        assert prompts == task.test_prompts(len(prompts))


def test_saved_prompts_may_hold_any_line_separator(tmp_path):
    prompts = [Prompt("a", "one\u2028two\x85three\x0c\nfour", " five\r\n")]
    save_prompts(prompts, tmp_path / "prompts.jsonl")
    assert load_prompts(tmp_path / "prompts.jsonl") == prompts
