"""Spec-Bench's own file: categories, metrics, second turns. See also test_prompt_files.py."""

import json

import pytest

from rsd_jax.errors import ConfigError
from rsd_jax.tasks import get_task

_QUESTIONS = [
    {"question_id": 81, "category": "writing", "turns": ["Write {it}. ", "Rewrite it."]},
    {
        "question_id": 101,
        "category": "reasoning",
        "turns": ["Who is second?", "And the last?"],
        "reference": ["You are.", ""],
    },
    {
        "question_id": 161,
        "category": "translation",
        "reference": ["Good day"],
        "turns": ["Translate German to English: Guten Tag"],
    },
    {
        "question_id": 162,
        "category": "translation",
        "reference": ["Good night"],
        "turns": ["Translate German to English: Gute Nacht"],
    },
    {
        "question_id": 241,
        "category": "summarization",
        "turns": ["Summarize: A long\u2028text."],
        "reference": ["A text."],
    },
    {
        "question_id": 481,
        "category": "rag",
        "turns": ["Describe the uses of forests."],
        "reference": [["wood", "purifying water"]],
    },
]


@pytest.fixture
def questions(tmp_path):
    path = tmp_path / "question.jsonl"
    lines = [json.dumps(question, ensure_ascii=False) + "\n" for question in _QUESTIONS]
    path.write_text("".join(lines), encoding="utf-8")
    return path


def test_spec_bench(questions):
    task = get_task("spec_bench", path=questions)
    assert (task.metric, task.template, task.templates) == (None, "chat", ("chat", "base"))
    prompts = task.test_prompts(None)
    assert [prompt.name for prompt in prompts] == [
        f"spec_bench/{question['question_id']}" for question in _QUESTIONS
    ]
    assert prompts[0].text == "[INST] Write {it}. [/INST]"
    assert [p.reference for p in prompts[:3]] == ["", " You are.", " Good day"]
    assert prompts[-1].reference == " wood\npurifying water"
    base = get_task("spec_bench", path=questions, template="base")
    assert base.test_prompts(1)[0].text == "Question: Write {it}.\n\nAnswer:"
    assert base.answer(" Done.\n\nQuestion: What?") == "Done."


def test_spec_bench_by_category(questions):
    def task(category):
        return get_task("spec_bench", path=questions, category=category)

    translation = task("translation")
    assert translation.metric == "bleu"
    prompts = translation.test_prompts(2)
    answers = [" Good day\n", "Good night"]
    assert translation.score(answers, prompts).num_prompts == 2
    assert task(["summarization"]).metric == "rouge2"
    several = task(("rag", "translation"))
    assert several.metric is None
    assert [p.name for p in several.test_prompts(None)] == [
        "spec_bench/161",
        "spec_bench/162",
        "spec_bench/481",
    ]
    for unknown in ("qa", ("rag", "qa"), ()):
        with pytest.raises(ConfigError, match=r"question\.jsonl has the categories \['writing', '"):
            task(unknown)


def test_spec_bench_spread_over_its_questions(questions):
    task = get_task("spec_bench", path=questions, spread=True)
    every = [prompt.name for prompt in task.test_prompts(None)]
    assert [prompt.name for prompt in task.test_prompts(2)] == [every[0], every[len(every) // 2]]
    assert [prompt.name for prompt in task.test_prompts(len(every))] == every
    with pytest.raises(ConfigError, match=r"takes no \['spread'\]"):
        get_task("jsonl", path=questions, spread=True)


def test_spec_bench_second_turns(questions):
    task = get_task("spec_bench", path=questions)
    first, other, single = task.test_prompts(3)
    second = task.follow_up(first, [" It.\n"])
    assert (second.name, second.reference) == ("spec_bench/81/2", "")
    assert second.text == ("[INST] Write {it}. [/INST] It. </s><s>[INST] Rewrite it. [/INST]")
    assert task.follow_up(first, ["It.", "Other."]) is None
    assert task.follow_up(single, ["Good day"]) is None
    assert task.follow_up(other, ["You."]).text.endswith("<s>[INST] And the last? [/INST]")
    base = get_task("spec_bench", path=questions, template="base")
    assert base.follow_up(first, [" It.\nQuestion: more"]).text == (
        "Question: Write {it}.\n\nAnswer: It.\n\nQuestion: Rewrite it.\n\nAnswer:"
    )
    with pytest.raises(ConfigError, match="answers is empty"):
        task.follow_up(first, [])
    with pytest.raises(ConfigError, match="'spec_bench/81/2' is not a first turn"):
        task.follow_up(second, ["It."])
    with pytest.raises(ConfigError, match="is not a first turn of this task"):
        get_task("spec_bench", path=questions, category="rag").follow_up(first, ["It."])


def test_questions_of_speed_bench(tmp_path):
    path = tmp_path / "qualitative.jsonl"
    question = {
        "question_id": "0a1b",
        "category": "multilingual",
        "sub_category": "mt",
        "turns": ["Translate: Guten Tag", "And back."],
        "source": "WMT",
        "src_id": "7",
        "difficulty": None,
        "multiturn": True,
    }
    other = question | {"question_id": "0c", "category": "coding", "turns": ["Sort."]}
    path.write_text(json.dumps(question) + "\n" + json.dumps(other) + "\n", encoding="utf-8")
    task = get_task("speed_bench", path=path)
    assert (task.metric, task.template) == (None, "chat")
    first, single = task.test_prompts(None)
    assert (first.name, first.category) == ("speed_bench/0a1b", "multilingual")
    assert first.text == "[INST] Translate: Guten Tag [/INST]"
    second = task.follow_up(first, ["Good day."])
    assert (second.name, second.category) == ("speed_bench/0a1b/2", "multilingual")
    assert task.follow_up(single, ["sorted(x)"]) is None
    (chosen,) = get_task("speed_bench", path=path, category="coding").test_prompts(None)
    assert chosen.category == "coding"
