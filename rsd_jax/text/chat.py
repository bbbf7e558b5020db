"""Conversations as text: by a tokenizer's own chat template, or in the format of Llama-2-Chat."""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tokenizers import Tokenizer

from rsd_jax.errors import ConfigError

CHAT_DATE = "2024-07-26"
"""The date for chat templates that print the date, if none is given.

The templates of Llama 3 print this date where they cannot ask for today's."""

SYSTEM, USER, ASSISTANT = "system", "user", "assistant"

# Letters of strftime's format; a macro replaces each by its value on the day.
_DIRECTIVES = "aAbBdDeFHIjmMpSTyY"

# Llama-2's tokenizer: size of the vocabulary, and the ids of its special tokens.
_LLAMA_2_SIZE = 32_000
_LLAMA_2_IDS = {"<s>": 1, "</s>": 2}
_BOS, _EOS = _LLAMA_2_IDS


class Message(NamedTuple):
    """One message of a conversation.

    Attributes:
      role: "system", "user" or "assistant".
      content: the text.
    """

    role: str
    content: str


Conversation = tuple[Message, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChatOptions:
    """What a chat template is given besides the messages.

    Attributes:
      kwargs: variables of the template, e.g. {"enable_thinking": False} for Qwen3.
      date: the date, YYYY-MM-DD, that templates print which print the date of today. The prompts
        thus do not change from day to day.

    Raises:
      ConfigError: the date is not a date.
    """

    kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    date: str = CHAT_DATE

    def __post_init__(self):
        try:
            datetime.date.fromisoformat(self.date)
        except (TypeError, ValueError):
            raise ConfigError(
                f"chat_date={self.date!r} must be a date like {CHAT_DATE!r}"
            ) from None


def conversation(messages: Any, where: str) -> Conversation:
    """Checks messages, such as those of a JSONL file.

    Args:
      messages: objects with `role` and `content`, or pairs of both: a system message if there is
        one, then messages of user and assistant in turn; the last one is the user's.
      where: begins the error messages.

    Raises:
      ConfigError: a message has another form or stands in the wrong place.
    """
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        raise ConfigError(f"{where}: messages must be a list with at least one message")
    checked = tuple(
        _message(message, f"{where}: message {number}") for number, message in enumerate(messages)
    )
    roles = [message.role for message in checked]
    turns = roles[1:] if roles[0] == SYSTEM else roles
    expected = [(USER, ASSISTANT)[i % 2] for i in range(len(turns))]
    if turns != expected or not turns or turns[-1] != USER:
        raise ConfigError(
            f"{where}: the roles are {roles}; give a system message or none, then user and "
            "assistant in turn, and end with user"
        )
    return checked


def _message(message: Any, where: str) -> Message:
    if isinstance(message, Mapping):
        if set(message) != {"role", "content"}:
            raise ConfigError(f"{where} has the keys {sorted(message)}; give role and content")
        message = message["role"], message["content"]
    if not isinstance(message, Sequence) or isinstance(message, str) or len(message) != 2:
        raise ConfigError(f"{where} must be an object with role and content")
    role, content = message
    if role not in (SYSTEM, USER, ASSISTANT):
        raise ConfigError(f"{where} has role={role!r}; give {SYSTEM!r}, {USER!r} or {ASSISTANT!r}")
    if not isinstance(content, str):
        raise ConfigError(f"{where} has a content of {type(content).__name__}, not a string")
    return Message(role, content)


def has_template(tokenizer: Any) -> bool:
    """Whether the tokenizer has a chat template of its own."""
    return bool(getattr(tokenizer, "chat_template", None))


def prints_date(tokenizer: Any) -> bool:
    """Whether the tokenizer's chat template asks for the date of today."""
    return has_template(tokenizer) and "strftime_now" in str(tokenizer.chat_template)


def is_llama_2(tokenizer: Any) -> bool:
    """Whether this is the tokenizer of Llama 2, by the size of its vocabulary and two ids."""
    if isinstance(tokenizer, Tokenizer):
        size: int | None = tokenizer.get_vocab_size(with_added_tokens=False)
        id_of: Any = tokenizer.token_to_id
    else:
        size = getattr(tokenizer, "vocab_size", None)
        id_of = getattr(tokenizer, "convert_tokens_to_ids", None)
    return size == _LLAMA_2_SIZE and all(id_of(name) == i for name, i in _LLAMA_2_IDS.items())


def check_can_chat(tokenizer: Any) -> None:
    """Raises `ConfigError` if nothing says how the tokenizer's model wants conversations."""
    if not has_template(tokenizer) and not is_llama_2(tokenizer):
        raise ConfigError(
            "the tokenizer has no chat template, so nothing says how its model wants "
            "conversations; add chat_template.jinja (or the key chat_template of "
            "tokenizer_config.json) to the tokenizer's directory, or choose another template"
        )


def render(tokenizer: Any, messages: Conversation, options: ChatOptions) -> str:
    """The text of a conversation by the tokenizer's own template, up to the answer to be given.

    The text holds all special tokens, BOS included, by their names.

    Raises:
      ConfigError: the template refuses the messages or the options.
    """
    import jinja2

    dated = {}
    if prints_date(tokenizer):
        dated["chat_template"] = _with_date(tokenizer.get_chat_template(), options.date)
    try:
        text: str = tokenizer.apply_chat_template(
            [message._asdict() for message in messages],
            tokenize=False,
            add_generation_prompt=True,
            **dated,
            **options.kwargs,
        )
    except (jinja2.TemplateError, TypeError, ValueError) as error:
        roles = [message.role for message in messages]
        raise ConfigError(
            f"the tokenizer's chat template refuses messages of {roles} with the options "
            f"{dict(options.kwargs)}: {error}"
        ) from None
    return text


def _with_date(template: str, date: str) -> str:
    """The template with a macro in place of the function `strftime_now`, which reads the clock."""
    day = datetime.datetime.fromisoformat(date)
    values = {letter: day.strftime(f"%{letter}") for letter in _DIRECTIVES}
    values |= {"-d": str(day.day), "-m": str(day.month)}
    filters = "".join(f"|replace('%{name}', '{value}')" for name, value in values.items())
    macro = (
        f"{{% macro strftime_now(format) %}}{{% set day = format{filters} %}}"
        "{% if '%' in day %}{{ raise_exception('no date in the format ' ~ format) }}{% endif %}"
        "{{ day }}{% endmacro %}"
    )
    # Jinja drops the line end behind a block, so the template begins as it did.
    return f"{macro}\n{template}"


def chat_turns(
    turns: Sequence[str], answers: Sequence[str] = (), *, system: str | None = None
) -> list[str]:
    """A conversation in the format of Llama-2-Chat, up to the turn to answer.

    Source: `chat_completion` of Meta's reference code for Llama 2 (Touvron et al. 2023). That code
    encodes every turn alone, with BOS in front, and with EOS behind answered turns. These strings
    contain neither BOS nor EOS; the tokenizer adds the BOS at the start. The chat template of the
    published checkpoints gives the same text as these strings joined with `</s><s>`, except for the
    BOS in front. The joined text is for tokenizers that read the names of special tokens in a text.

    Args:
      turns: the texts of the user; the turn to answer comes last.
      answers: one for each earlier turn.
      system: system message, which is put in front of the first turn, in tags.

    Returns:
      one string per turn, `[INST] turn [/INST]`, followed by ` answer ` if the turn is answered.
      White space around turns and answers is dropped, as in both sources.
    """
    if system is not None:
        turns = [f"<<SYS>>\n{system}\n<</SYS>>\n\n{turns[0]}", *turns[1:]]
    asked = [f"[INST] {turn.strip()} [/INST]" for turn in turns]
    before = [f"{turn} {text.strip()} " for turn, text in zip(asked[:-1], answers, strict=True)]
    return [*before, asked[-1]]


def llama_2_text(messages: Conversation) -> str:
    """A conversation in the format of Llama-2-Chat as one text, without the BOS in front."""
    by_role = {
        role: [message.content for message in messages if message.role == role]
        for role in (SYSTEM, USER, ASSISTANT)
    }
    system = by_role[SYSTEM][0] if by_role[SYSTEM] else None
    return f"{_EOS}{_BOS}".join(chat_turns(by_role[USER], by_role[ASSISTANT], system=system))
