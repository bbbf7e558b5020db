"""`rsd chat` on the tiny pair: the conversation that the model sees."""

import pytest

from rsd_jax.cli import speaker
from rsd_jax.cli.commands import chat
from tests.cli.speaking import give, rsd, tiny_models

__all__ = ["tiny_models"]

pytestmark = pytest.mark.usefixtures("tiny_models")
_GIVEN = ("chat", "--pair", "quickstart", "--method", "ar", "--max_new_tokens", "3", "--quiet")


@pytest.fixture
def asked(monkeypatch):
    """The conversations that are encoded, as roles and texts."""
    seen = []

    def encode(tokenizer, prompts):
        seen.extend([tuple(message) for message in prompt] for prompt in prompts)
        return [[7, 8]]

    monkeypatch.setattr(chat, "encode_prompts", encode)
    return seen


@pytest.fixture
def answers(monkeypatch):
    """Has the models answer "ab", and records the options of `stream`."""
    given = []

    def streamed(method, target, draft, prompts, **options):
        given.append(options)
        yield 0, [2]
        yield 0, [3]

    monkeypatch.setattr(speaker, "stream", streamed)
    return given


def test_the_history_is_kept_until_a_new_conversation(
    asked, answers, tiny_models, capsys, monkeypatch
):
    give(monkeypatch, "one\n\n  two \n/new\nthree\n")
    code, out, _ = rsd(capsys, *_GIVEN, "--system", "be brief")
    assert (code, out) == (0, "ab\nab\nab\n")
    system, user, answer = ("system", "be brief"), ("user", "one"), ("assistant", "ab")
    assert asked == [
        [system, user],
        [system, user, answer, ("user", "two")],
        [system, ("user", "three")],
    ]
    assert [options["request_ids"] for options in answers] == [[0], [1], [2]], "draws must differ"
    assert answers[0]["eos_id"] == (tiny_models.tokenizer.eos_token_id,)


def test_a_cut_character_at_the_end_belongs_to_the_answer(
    asked, answers, tiny_models, capsys, monkeypatch
):
    monkeypatch.setattr(
        tiny_models.tokenizer, "decode", lambda ids, **_: "\N{REPLACEMENT CHARACTER}"
    )
    give(monkeypatch, "one\ntwo\n")
    assert rsd(capsys, *_GIVEN)[1] == "\N{REPLACEMENT CHARACTER}\n" * 2
    assert asked[1][1] == ("assistant", "\N{REPLACEMENT CHARACTER}")


def test_a_message_that_cannot_be_answered_is_left_out(asked, capsys, monkeypatch):
    """The real `stream`: the conversation and the limit together are too long for the tiny pair."""
    give(monkeypatch, "one\ntwo\n")
    given = [each if each != "3" else "600" for each in _GIVEN]
    code, out, err = rsd(capsys, *given)
    assert (code, out) == (0, "")
    assert err.count("error: prompt 0 has 2 tokens") == 2
    assert "/new" in err
    assert asked == [[("user", "one")], [("user", "two")]]


def test_ctrl_c_stops_an_answer_and_keeps_it(asked, capsys, monkeypatch):
    def stopped(*arguments, **options):
        yield 0, [2]
        raise KeyboardInterrupt

    monkeypatch.setattr(speaker, "stream", stopped)
    give(monkeypatch, "one\ntwo\n")
    code, out, err = rsd(capsys, *_GIVEN)
    assert (code, out) == (0, "a\na\n")
    assert "stopped" in err
    assert asked[1] == [("user", "one"), ("assistant", "a"), ("user", "two")]


def test_a_model_without_a_chat_template_is_refused(tiny_models, capsys, monkeypatch):
    monkeypatch.setattr(tiny_models.tokenizer, "chat_template", None)
    give(monkeypatch, "one\n")
    code, out, err = rsd(capsys, *_GIVEN)
    assert (code, out) == (2, "")
    assert "no chat template" in err
