"""Templates: from source texts to prompts for base models, or to conversations for chat models.

The prompts of the papers are not known. The templates of each task are our choice and stand in the
module of the task.
"""

import dataclasses
from collections.abc import Sequence

from rsd_jax.errors import ConfigError
from rsd_jax.tasks.prompts import Prompt
from rsd_jax.text.chat import (
    ASSISTANT,
    SYSTEM,
    USER,
    Conversation,
    Message,
    chat_turns,
    llama_2_text,
)

__all__ = ["CHAT", "Template", "chat_turns", "choose"]

CHAT = "chat"
"""The name of the template that makes conversations."""


@dataclasses.dataclass(frozen=True)
class Template:
    """Turns a source text into a prompt.

    Attributes:
      name: as in `Task.templates`.
      text: with `{source}` in the place of the source; for chat, the text of the user.
      stop: text that ends an answer; None if the model ends its answer with EOS.
      chat: whether the prompt is a conversation, which the tokenizer's own template renders.
      system: the system message of the conversation; None: there is none.
    """

    name: str
    text: str = "{source}"
    stop: str | None = None
    chat: bool = False
    system: str | None = None

    def render(self, sources: Sequence[str], answers: Sequence[str] = ()) -> str:
        """The text that asks for an answer to the last of `sources`.

        For chat, the text is in the format of Llama-2-Chat. Otherwise an empty line separates
        turns.

        Args:
          sources: the source of every turn; the turn to answer comes last.
          answers: one for each earlier turn.
        """
        if self.chat:
            return llama_2_text(self.messages(sources, answers))
        turns = [self.text.format(source=source) for source in sources]
        before = [f"{turn} {answer}" for turn, answer in zip(turns[:-1], answers, strict=True)]
        return "\n\n".join([*before, turns[-1]])

    def messages(self, sources: Sequence[str], answers: Sequence[str] = ()) -> Conversation:
        """The conversation of a chat, arguments as for `render`."""
        turns = [self.text.format(source=source) for source in sources]
        messages = [] if self.system is None else [Message(SYSTEM, self.system)]
        for turn, answer in zip(turns[:-1], answers, strict=True):
            messages += [Message(USER, turn), Message(ASSISTANT, answer)]
        return (*messages, Message(USER, turns[-1]))

    def with_system(self, messages: Conversation) -> Conversation:
        """A conversation with the template's system message, unless it has one."""
        if self.system is None or messages[0].role == SYSTEM:
            return messages
        return (Message(SYSTEM, self.system), *messages)

    def prompt(
        self, name: str, sources: Sequence[str], reference: str, answers: Sequence[str] = ()
    ) -> Prompt:
        """The prompt of that name and reference; `sources` and `answers` as for `render`."""
        messages = self.messages(sources, answers) if self.chat else None
        return Prompt(name, self.render(sources, answers), reference, messages)


def choose(templates: Sequence[Template], name: str | None, task: str) -> Template:
    """The template of that name; the first template if the name is None.

    Raises:
      ConfigError: there is no template of that name.
    """
    if name is None:
        return templates[0]
    for template in templates:
        if template.name == name:
            return template
    known = [template.name for template in templates]
    raise ConfigError(f"template={name!r}: the task {task!r} has the templates {known}")
