"""`encode_prompts`: the one way from prompts to token ids, for every part of the package."""

from collections.abc import Mapping, Sequence
from typing import Any

from rsd_jax.errors import ConfigError
from rsd_jax.text.chat import (
    SYSTEM,
    USER,
    ChatOptions,
    Conversation,
    Message,
    check_can_chat,
    conversation,
    has_template,
    llama_2_text,
    render,
)
from rsd_jax.text.encoding import encode, special_names, warn_of_special_starts

# A text that no template changes or adds, to find where the message of the user stands.
_MESSAGE = "MESSAGE-OF-THE-USER"


def encode_prompts(
    tokenizer: Any,
    prompts: Sequence[str | Sequence[Message | Mapping[str, str]]],
    *,
    parse_special: bool = False,
    chat: ChatOptions | None = None,
) -> list[list[int]]:
    """Token ids of texts and of conversations.

    A text is encoded as the tokenizer does by default, which adds BOS where the model wants one.
    The names of special tokens in a text are text, unless `parse_special` is set. A conversation is
    rendered by the tokenizer's own chat template, whose special tokens are always read; its ids are
    those of `apply_chat_template` in transformers. The tokenizer of Llama 2 has a template even if
    its files hold none.

    Warns once if texts begin with the name of a special token that is read as text.

    Args:
      tokenizer: of `transformers`; or of `tokenizers`, whose conversations must be Llama 2's.
      prompts: texts, or conversations, each a list of messages with `role` and `content`.
      parse_special: whether names of special tokens in texts become these tokens.
      chat: options for the chat template; None for the defaults.

    Raises:
      ConfigError: a prompt is neither a text nor a conversation; there is a conversation, but no
        chat template; the template refuses the messages.
    """
    if isinstance(prompts, str):
        raise ConfigError("prompts is one text; give a list of texts or conversations")
    checked: list[str | Conversation] = [
        prompt if isinstance(prompt, str) else conversation(prompt, f"prompt {row}")
        for row, prompt in enumerate(prompts)
    ]
    if not parse_special:
        warn_of_special_starts(tokenizer, [text for text in checked if isinstance(text, str)])
    return [
        prompt_ids(tokenizer, prompt, parse_special=parse_special, chat=chat) for prompt in checked
    ]


def prompt_ids(
    tokenizer: Any,
    prompt: str | Conversation,
    *,
    parse_special: bool = False,
    chat: ChatOptions | None = None,
) -> list[int]:
    """`encode_prompts` for one prompt, without the warning."""
    if isinstance(prompt, str):
        return encode(tokenizer, prompt, parse_special=parse_special)
    check_can_chat(tokenizer)
    if has_template(tokenizer):
        text = render(tokenizer, prompt, chat or ChatOptions())
        return encode(tokenizer, text, parse_special=True, add_special=False)
    return encode(tokenizer, llama_2_text(prompt), parse_special=True)


def user_messages(text: str, system: str | None) -> Conversation:
    """A conversation that the user opens, behind a system message if there is one."""
    opening = () if system is None else (Message(SYSTEM, system),)
    return (*opening, Message(USER, text))


def user_frame(
    tokenizer: Any, *, system: str | None = None, chat: ChatOptions | None = None
) -> tuple[list[int], int]:
    """What the chat template puts around the user's first message.

    Args:
      tokenizer: of `transformers`, with a chat template.
      system: system message of the conversation; None: there is none.
      chat: options for the chat template; None for the defaults.

    Returns:
      the ids up to where the message begins, and the special token that ends the message.

    Raises:
      ConfigError: there is no chat template, or no special token ends the message.
    """
    advice = "give prompts of your own instead of `self_prompts`"
    if not has_template(tokenizer):
        raise ConfigError(f"the tokenizer has no chat template; {advice}")
    text = render(tokenizer, user_messages(_MESSAGE, system), chat or ChatOptions())
    before, found, behind = text.rpartition(_MESSAGE)
    names = [each for each in special_names(tokenizer) if behind.startswith(each)]
    if not found or not names:
        raise ConfigError(
            f"the chat template ends the message of the user with {behind[:40]!r}, which is no "
            f"special token, so nothing says where such a message ends; {advice}"
        )
    ids = encode(tokenizer, before, parse_special=True, add_special=False)
    name = max(names, key=len)
    return ids, encode(tokenizer, name, parse_special=True, add_special=False)[0]
