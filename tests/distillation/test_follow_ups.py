"""Longer prompts, made from answers of the target."""

import pytest

from rsd_jax.distillation.data.follow_ups import Answered, follow_ups
from rsd_jax.errors import ConfigError
from rsd_jax.text.chat import ASSISTANT, USER, conversation

_ANSWERED = [Answered(f"Question {n}?", f"First answer {n}. And more {n}! But") for n in range(9)]


def test_each_kind_gets_a_fourth():
    made = follow_ups(_ANSWERED, 80)
    assert len(made) == 80
    for messages in made:
        assert conversation(list(messages), "made") == messages
    for index, messages in enumerate(made):
        roles = [message.role for message in messages]
        assert roles == ([USER, ASSISTANT, USER] if index % 4 == 0 else [USER])
    for asked, answered, _ in made[::4]:
        n = asked.content.removeprefix("Question ").removesuffix("?")
        # What comes after the last sentence is left out.
        assert answered.content == f"First answer {n}. And more {n}!"
    for kind, most in ((1, 3), (2, 4)):
        counts = {messages[0].content.count("First answer") for messages in made[kind::4]}
        assert counts == set(range(1, most + 1))
    for (message,) in made[2::4]:
        (asked,) = {n for n in range(9) if f"Question {n}?" in message.content}
        assert f"First answer {asked}." in message.content
    german = [message.content for (message,) in made[3::4] if "English" in message.content]
    assert 4 < len({text for text in german if "First answer" not in text}) < 17


def test_fewer_open_more():
    assert follow_ups(_ANSWERED, 30)[:12] == follow_ups(_ANSWERED, 12)
    assert follow_ups(_ANSWERED, 12, seed=1) != follow_ups(_ANSWERED, 12)


def test_which_part_of_an_answer_is_used():
    empty = [Answered("Empty?", ""), Answered("Empty?", " ")]
    with pytest.raises(ConfigError, match="needs 4 answers that are not empty, and there are 3"):
        follow_ups(empty + _ANSWERED[:3], 4)
    chinese = "\u4f60\u597d\u3002\u518d\u89c1\uff01"
    answered = [*empty, Answered("Open?", "no end"), Answered("Hello?", f"{chinese}\u6211")] * 2
    texts = [message.content for each in follow_ups(answered, 40) for message in each]
    assert not [text for text in texts if "Empty?" in text]
    assert [text for text in texts if "no end" in text]
    assert [text for text in texts if chinese in text]
    assert not [text for text in texts if "\u6211" in text]
    with pytest.raises(ConfigError, match="count"):
        follow_ups(_ANSWERED, 0)
