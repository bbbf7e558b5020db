"""`rsd generate --prompts` on the tiny pair: a file of prompts becomes a file of answers."""

import io
import json
import types

import pytest

import rsd_jax
from rsd_jax.cli import answers, speaker
from rsd_jax.tasks.prompts import Prompt
from tests import tiny
from tests.cli.speaking import rsd, tiny_models

__all__ = ["tiny_models"]

_TEXTS = ["two men", "a", "the quick brown fox", "one, two", "z z z"]
_LIMIT = 12
_GIVEN = ("--max_new_tokens", _LIMIT, "--temperature", "1", "--seed", "5", "--method", "rsd_c")
_GIVEN += ("--tree", "2-2", "--batch_size", "3")


@pytest.fixture
def prompts(tmp_path, tiny_models):
    """A file of prompts; the second has a name."""
    path = tmp_path / "prompts.jsonl"
    lines = [{"prompt": text} for text in _TEXTS]
    lines[1]["name"] = "short"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def _answers(text):
    return [json.loads(line) for line in text.splitlines()]


def _expected(pair, prompts=_TEXTS):
    target, draft = tiny.pair()
    return rsd_jax.generate(
        rsd_jax.build_method("rsd_c", branching=(2, 2)),
        target,
        draft,
        rsd_jax.encode_prompts(pair.tokenizer, prompts),
        max_new_tokens=_LIMIT,
        temperature=1.0,
        seed=5,
        eos_id=pair.eos_ids,
        batch_size=3,
    )


def test_the_answers_are_those_of_generate(prompts, tiny_models, capsys, tmp_path):
    out = tmp_path / "new folder" / "answers.jsonl"
    code, said, err = rsd(capsys, "generate", "--prompts", prompts, *_GIVEN, "--out", out)
    assert (code, said) == (0, "")
    expected, found = _expected(tiny_models), _answers(out.read_text())
    names = ["prompts.jsonl:1", "short", *(f"prompts.jsonl:{i}" for i in (3, 4, 5))]
    assert [line["name"] for line in found] == names
    assert [line["answer"] for line in found] == [
        tiny_models.tokenizer.decode(tokens) for tokens in expected.tokens
    ]
    assert [line["num_tokens"] for line in found] == expected.num_tokens.tolist()
    assert [line["finish_reason"] for line in found] == expected.finish_reason
    assert set(expected.finish_reason) == {"eos", "length"}
    assert f"5 answers, {expected.num_tokens.sum()} tokens, in {out}; rsd_c 2-2: " in err
    code, said, err = rsd(capsys, "generate", "--prompts", prompts, *_GIVEN, "--quiet")
    assert _answers(said) == found
    assert err == ""


def test_an_older_file_of_answers_stays(prompts, capsys, tmp_path):
    out = tmp_path / "answers.jsonl"
    out.write_text("old")
    code, _, err = rsd(capsys, "generate", "--prompts", prompts, "--out", out)
    assert code == 2
    assert f"--out={out} exists" in err
    assert out.read_text() == "old"


def test_nothing_is_written_if_a_prompt_cannot_be_decoded(prompts, capsys, tmp_path):
    out = tmp_path / "answers.jsonl"
    prompts.write_text('{"prompt": "a"}\n{"input_ids": [1, 99]}\n')
    code, _, err = rsd(capsys, "generate", "--prompts", prompts, *_GIVEN, "--out", out)
    assert code == 2
    assert "prompt 1 holds token id 99" in err
    assert not out.exists()


@pytest.mark.parametrize(
    ("error", "exit_code", "message"),
    [
        (KeyboardInterrupt(), 130, "interrupted; 3 of 5 answers are in "),
        (rsd_jax.NonFiniteLogitsError({2: 1}, None), 1, "error: "),
    ],
    ids=["ctrl-c", "no law"],
)
def test_finished_answers_stay_in_their_order(
    error, exit_code, message, prompts, capsys, tmp_path, monkeypatch
):
    def stopped(*arguments, **options):
        yield 1, [2] * _LIMIT
        yield 3, [3, 1]
        yield 2, [4]
        yield 4, [5, 5]
        yield 4, [1]
        raise error

    monkeypatch.setattr(speaker, "stream", stopped)
    out = tmp_path / "answers.jsonl"
    code, _, err = rsd(capsys, "generate", "--prompts", prompts, *_GIVEN, "--out", out)
    assert code == exit_code
    assert err.splitlines()[-1].startswith(message)
    answers = [(line["answer"], line["finish_reason"]) for line in _answers(out.read_text())]
    assert answers == [("a" * _LIMIT, "length"), ("b", "eos"), ("dd", "eos")]


def test_conversations_get_the_system_message_unless_they_have_one(
    prompts, tiny_models, capsys, monkeypatch
):
    message = {"role": "user", "content": "two"}
    own = [{"role": "system", "content": "long"}, message]
    prompts.write_text(
        "\n".join(json.dumps(line) for line in ({"prompt": " two "}, {"messages": own}))
    )
    texts = ["be brief\ntwo\n", "long\ntwo\n"]
    chat = ("--chat", "--system", "be brief")
    _, said, _ = rsd(capsys, "generate", "--prompts", prompts, *_GIVEN, *chat)
    expected = _expected(tiny_models, texts)
    assert [line["answer"] for line in _answers(said)] == [
        tiny_models.tokenizer.decode(tokens) for tokens in expected.tokens
    ]


def test_answers_that_finish_out_of_order_wait_for_those_before_them(tiny_models):
    """The last prompts finish first; each line stands where its prompt does, and none is lost."""
    pair = types.SimpleNamespace(eos_ids=(), tokenizer=tiny_models.tokenizer)
    written = io.StringIO()
    named = [Prompt(name=name, text="a", reference="") for name in ("first", "second", "third")]
    writer = answers._Writer(named, types.SimpleNamespace(pair=pair), written)
    for index in (2, 1, 0):
        assert written.getvalue() == ""
        writer.add(index, [index + 1])
    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    assert [(line["name"], line["num_tokens"]) for line in lines] == [
        ("first", 1),
        ("second", 1),
        ("third", 1),
    ]
    assert (writer.written, writer.tokens) == (3, 3)
