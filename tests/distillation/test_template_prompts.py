"""Messages that are filled into templates."""

import pytest

from rsd_jax.distillation.data.template_prompts import template_prompts
from rsd_jax.errors import ConfigError


def test_messages_differ_and_have_no_gaps():
    messages = template_prompts(1000)
    assert len(set(messages)) == 1000
    assert not any("{" in message or "}" in message for message in messages)
    assert all(message[0].isupper() and message[-1] in ".?" for message in messages)
    assert sum("function that" in message for message in messages) > 40
    assert sum("How m" in message or "How far" in message for message in messages) > 80


def test_fewer_messages_open_more():
    assert template_prompts(300)[:20] == template_prompts(20)
    assert template_prompts(20, seed=1) != template_prompts(20)


def test_counts_without_messages():
    with pytest.raises(ConfigError, match="count"):
        template_prompts(0)
