"""Templates: from source texts to prompts for base models or in the format of Llama-2-Chat.

The prompts of the papers are not known. The templates of each task are our choice and stand in the
module of the task.
"""

import dataclasses
from collections.abc import Sequence

from rsd_jax.errors import ConfigError

# What Llama-2's tokenizer calls its special tokens.
_BOS, _EOS = "<s>", "</s>"


@dataclasses.dataclass(frozen=True)
class Template:
    """Turns a source text into a prompt.

    Attributes:
      name: as in `Task.templates`.
      text: with `{source}` in the place of the source; for chat, the text of the user.
      stop: text that ends an answer; None if the model ends its answer with EOS.
      chat: whether the prompt is in the format of Llama-2-Chat.
      system: the system message of the chat, without the tags; None: there is none.
    """

    name: str
    text: str = "{source}"
    stop: str | None = None
    chat: bool = False
    system: str | None = None

    def render(self, sources: Sequence[str], answers: Sequence[str] = ()) -> str:
        """The prompt that asks for an answer to the last of `sources`.

        Outside of chat, an empty line separates turns.

        Args:
          sources: the source of every turn; the turn to answer comes last.
          answers: one for each earlier turn.
        """
        turns = [self.text.format(source=source) for source in sources]
        if self.chat:
            return f"{_EOS}{_BOS}".join(chat_turns(turns, answers, system=self.system))
        before = [f"{turn} {answer}" for turn, answer in zip(turns[:-1], answers, strict=True)]
        return "\n\n".join([*before, turns[-1]])


def chat_turns(
    turns: Sequence[str], answers: Sequence[str] = (), *, system: str | None = None
) -> list[str]:
    """A conversation in the format of Llama-2-Chat, up to the turn to answer.

    Source: `chat_completion` of Meta's reference code for Llama 2 (Touvron et al. 2023). That code
    encodes every turn alone, with BOS in front, and with EOS behind answered turns. These strings
    contain neither BOS nor EOS; the tokenizer adds the BOS at the start. The chat template of the
    published checkpoints gives the same text as these strings joined with `</s><s>`, except for the
    BOS in front. The joined text is for tokenizers that read the names of special tokens in a text,
    as the tokenizers of transformers do.

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
