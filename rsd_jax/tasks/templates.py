"""How a source text becomes a prompt: for base models, and in the format of Llama-2-Chat.

Which prompts the papers used is not known; the templates of each task are our choice, declared in
the task's module.
"""

import dataclasses
from collections.abc import Sequence

from rsd_jax.errors import ConfigError

# What Llama-2's tokenizer calls its special tokens.
_BOS, _EOS = "<s>", "</s>"


@dataclasses.dataclass(frozen=True)
class Template:
    """How a source text becomes a prompt.

    Attributes:
      name: as in `Task.templates`.
      text: with `{source}` in the place of the source; for chat, what the user says.
      stop: text that ends an answer; None where the model ends it with EOS.
      chat: whether the prompt is in the format of Llama-2-Chat.
      system: the system message of the chat, without the tags; None: there is none.
    """

    name: str
    text: str = "{source}"
    stop: str | None = None
    chat: bool = False
    system: str | None = None

    def render(self, sources: Sequence[str], answers: Sequence[str] = ()) -> str:
        """The prompt of the last of `sources`; the earlier ones have been answered.

        Outside of chat, turns are apart by an empty line.

        Args:
          sources: of every turn, the one to answer last.
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
    """A conversation in the format of Llama-2-Chat, up to what is to be answered.

    Source: `chat_completion` of Meta's reference code for Llama 2 (Touvron et al. 2023), which
    encodes every turn alone, with BOS in front and, behind the answered ones, EOS. Neither is in
    these strings: BOS at the start is the tokenizer's business. Joined with `</s><s>` the strings
    are what the chat template of the published checkpoints gives, but for the BOS in front; that
    text is for tokenizers that read the names of special tokens in it, as those of transformers do.

    Args:
      turns: what the user says, the turn to answer last.
      answers: one for each earlier turn.
      system: goes in front of the first turn, in its tags.

    Returns:
      One string per turn, `[INST] turn [/INST]`, and for answered ones ` answer ` behind it. White
      space around turns and answers is dropped, as in both sources.
    """
    if system is not None:
        turns = [f"<<SYS>>\n{system}\n<</SYS>>\n\n{turns[0]}", *turns[1:]]
    asked = [f"[INST] {turn.strip()} [/INST]" for turn in turns]
    before = [f"{turn} {text.strip()} " for turn, text in zip(asked[:-1], answers, strict=True)]
    return [*before, asked[-1]]


def choose(templates: Sequence[Template], name: str | None, task: str) -> Template:
    """The template of that name, the first if it is None.

    Raises:
      ConfigError: there is none.
    """
    if name is None:
        return templates[0]
    for template in templates:
        if template.name == name:
            return template
    known = [template.name for template in templates]
    raise ConfigError(f"template={name!r}: the task {task!r} has the templates {known}")
