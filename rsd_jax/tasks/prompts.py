"""`Prompt`, and files of prompts, such as the held-out prompts that ship with the package."""

import dataclasses
import json
import pathlib

from rsd_jax.errors import ConfigError
from rsd_jax.records.json_objects import json_value
from rsd_jax.text.chat import Conversation

QUICKSTART_PROMPTS = pathlib.Path(__file__).parents[1] / "assets/quickstart/prompts.jsonl"
_FIELDS = ("name", "text", "reference")


@dataclasses.dataclass(frozen=True)
class Prompt:
    """A prompt and its reference.

    Attributes:
      name: where the text is from: file of the standard library and first line, split and index
        of an example, or the name in the file of prompts.
      text: what the model is given; ends at the end of a line or word. For a conversation, its text
        in the format of Llama-2-Chat, which only the tokenizer of Llama 2 is given.
      reference: the text that follows in the source, or a right answer to the prompt, with its
        leading white space; empty if there is none.
      messages: the conversation, for the chat template of the tokenizer; None for a plain text.
      ids: the token ids of the prompt, if they are given; text and messages then do not count.
      category: kind of question, for results by category; None if the task has no categories.
    """

    name: str
    text: str
    reference: str
    messages: Conversation | None = None
    ids: tuple[int, ...] | None = None
    category: str | None = None


def load_prompts(path: str | pathlib.Path = QUICKSTART_PROMPTS) -> list[Prompt]:
    """Reads plain prompts from JSON lines: name, text, reference; the shipped ones by default.

    Raises:
      ConfigError: the file is missing, or a line is not an object with these fields.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise ConfigError(f"there is no prompt file {path}")
    prompts = []
    # `splitlines` of the text would also split at characters that JSON does not escape.
    try:
        lines = path.read_bytes().removesuffix(b"\n").split(b"\n")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror})") from None
    for number, line in enumerate(lines, start=1):
        try:
            values = json_value(line.decode())
            prompts.append(Prompt(**{field: values.pop(field) for field in _FIELDS}))
            if values:
                raise TypeError(f"unknown fields {sorted(values)}")
            if not all(isinstance(getattr(prompts[-1], field), str) for field in _FIELDS):
                raise TypeError("a field is no text")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"{path}, line {number}: expected an object with name, text and reference ({error})"
            ) from None
    return prompts


def save_prompts(prompts: list[Prompt], path: str | pathlib.Path) -> None:
    """Writes plain prompts to a file that `load_prompts` can read."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (
        json.dumps({field: getattr(prompt, field) for field in _FIELDS}, ensure_ascii=False)
        for prompt in prompts
    )
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
