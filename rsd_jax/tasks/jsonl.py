"""Reading the objects of a JSONL file, one per line, in UTF-8; and the task `jsonl`.

The task `jsonl` decodes the user's own prompts. A line of its file has the field `prompt`,
`messages` or `input_ids`, and may have `reference`, `name` and `category`. The model is given the
prompt as it is, or as the text of the user in a chat; `messages` are a whole conversation,
`input_ids` the token ids of a prompt.
"""

import codecs
import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

from rsd_jax.errors import ConfigError, is_integer
from rsd_jax.records.json_objects import json_value
from rsd_jax.tasks.base import PLAIN, Task
from rsd_jax.tasks.prompts import Prompt
from rsd_jax.tasks.scoring import METRICS
from rsd_jax.tasks.templates import CHAT, Template, choose
from rsd_jax.text.chat import conversation, llama_2_text

FIELDS = ("prompt", "reference", "name", "category")
MESSAGES, INPUT_IDS = "messages", "input_ids"
TEMPLATES = (Template(PLAIN), Template(CHAT, chat=True))
_MAX_NEW_TOKENS = 256


def jsonl_task(
    *, path: str | pathlib.Path, template: str | None = None, metric: str | None = None
) -> Task:
    """A task of the user's own prompts.

    `dataclasses.replace` gives it another name, `stop` or `max_new_tokens`.

    Args:
      path: the file.
      template: "plain", the default, for the prompts as they are; or "chat", for the prompts as
        texts of the user, and for `messages`.
      metric: one of `METRICS`, which scores the answers; None: answers are not scored.

    Raises:
      ConfigError: the template or metric is unknown; the file is missing or empty; a line is
        invalid, or has no reference although a metric is given. Names file and line.
    """
    chosen = choose(TEMPLATES, template, "jsonl")
    if metric is not None and metric not in METRICS:
        raise ConfigError(f"metric={metric!r} must be None or one of {METRICS}")
    prompts: list[Prompt] = []
    places: list[tuple[str, str]] = []
    for where, values in read_objects(path):
        check_fields(values, (*FIELDS, MESSAGES, INPUT_IDS), where)
        reference = values.get("reference")
        if metric is not None and reference is None:
            raise ConfigError(f"{where}: no field 'reference', which metric={metric!r} needs")
        name = text_of(values, "name", where) if "name" in values else default_name(where)
        reference = None if reference is None else text_of(values, "reference", where)
        if chosen.chat and reference is not None:
            # Without chat, the reference continues the prompt; white space may be part of it.
            reference = f" {reference.strip()}"
        made = prompt_of(values, where, chosen, name=name, reference=reference or "")
        category = text_of(values, "category", where) if "category" in values else None
        prompts.append(dataclasses.replace(made, category=category))
        places.append((name, where))
    check_names(places)
    return Task(
        name="jsonl",
        metric=metric,
        stop=chosen.stop,
        max_new_tokens=_MAX_NEW_TOKENS,
        first=lambda count: prompts[:count],
        template=None if chosen.name == PLAIN else chosen.name,
        templates=tuple(t.name for t in TEMPLATES),
        strip=chosen.chat,
    )


def prompt_of(
    values: dict[str, Any],
    where: str,
    template: Template,
    *,
    name: str,
    reference: str = "",
    field: str = "prompt",
) -> Prompt:
    """The prompt of a line: a text, a conversation or token ids.

    Args:
      values: the object in the line, with one of `field`, `messages` and `input_ids`.
      where: file and line, for error messages.
      template: applied to a text; a conversation needs one for chat, whose system message is put in
        front of a conversation without one; token ids are taken as they are.
      name, reference: of the prompt.
      field: name of the field with the text.

    Raises:
      ConfigError: the line has several of the three fields or none, or a malformed one.
    """
    given = [key for key in (field, MESSAGES, INPUT_IDS) if key in values]
    if len(given) > 1:
        raise ConfigError(f"{where}: the fields {given} are one prompt each; give one of them")
    if given == [INPUT_IDS]:
        return Prompt(name, "", reference, ids=_token_ids(values[INPUT_IDS], where))
    if given == [MESSAGES]:
        messages = conversation(values[MESSAGES], where)
        if not template.chat:
            raise ConfigError(
                f"{where}: the field {MESSAGES!r} needs template={CHAT!r}, not {template.name!r}"
            )
        messages = template.with_system(messages)
        return Prompt(name, llama_2_text(messages), reference, messages)
    text = text_of(values, field, where)
    return template.prompt(name, [text.strip() if template.chat else text], reference)


def _token_ids(values: Any, where: str) -> tuple[int, ...]:
    if not isinstance(values, list) or not values or not all(map(is_integer, values)):
        raise ConfigError(f"{where}: the field {INPUT_IDS!r} is not a list of token ids")
    return tuple(values)


def read_objects(path: str | pathlib.Path) -> list[tuple[str, dict[str, Any]]]:
    """The objects of a JSONL file, each with "file, line number" for error messages.

    Lines that hold only white space are left out.

    Raises:
      ConfigError: the file is missing, cannot be read or is empty, or a line is not a JSON object
        in UTF-8.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise ConfigError(f"path={str(path)!r} is not a file; give a JSONL file")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error})") from None
    objects = []
    # `splitlines` of the text would also split at characters that JSON does not escape.
    for number, line in enumerate(data.removeprefix(codecs.BOM_UTF8).split(b"\n"), start=1):
        where = f"{path}, line {number}"
        try:
            if not (text := line.decode().strip()):
                continue
            values = json_value(text)
        except UnicodeDecodeError as error:
            raise ConfigError(f"{where}: not UTF-8 ({error.reason})") from None
        except ValueError as error:
            raise ConfigError(f"{where}: not JSON ({error})") from None
        if not isinstance(values, dict):
            raise ConfigError(f"{where}: expected an object, got {type(values).__name__}")
        objects.append((where, values))
    if not objects:
        raise ConfigError(f"{path} is empty; give at least one line")
    return objects


def text_of(values: dict[str, Any], field: str, where: str) -> str:
    """The text of a field, which has to be a string with more than white space in it.

    Raises:
      ConfigError: the field is missing or is no such string; names `where`.
    """
    if field not in values:
        raise ConfigError(f"{where}: no field {field!r}; the fields are {sorted(values)[:9]}")
    return check_text(values[field], f"{where}: the field {field!r}")


def check_text(text: Any, what: str) -> str:
    """The text, after a check; `what` names the text in error messages.

    Raises:
      ConfigError: the text is not a string, is blank, or cannot be encoded in UTF-8.
    """
    if not isinstance(text, str):
        raise ConfigError(f"{what} is {type(text).__name__}, not a string")
    if not text.strip():
        raise ConfigError(f"{what} is blank")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{what} holds a lone surrogate") from None
    return text


def check_fields(values: dict[str, Any], known: Sequence[str], where: str) -> None:
    """Checks the names of the fields: a misspelled `reference` would pass for a missing one.

    Raises:
      ConfigError: a field is not known.
    """
    if unknown := sorted(set(values) - set(known)):
        raise ConfigError(f"{where}: unknown fields {unknown[:9]}; known ones: {list(known)}")


def check_names(names: Sequence[tuple[str, str]]) -> None:
    """Checks that no name occurs twice.

    Args:
      names: pairs of a name and where the name stands.

    Raises:
      ConfigError: a name occurs twice; names both places.
    """
    known: dict[str, str] = {}
    for name, where in names:
        if name in known:
            raise ConfigError(f"{where}: the name {name!r} is already used in {known[name]}")
        known[name] = where


def default_name(where: str) -> str:
    """The name of a prompt without one: the file without its folder, and the line."""
    path, _, line = where.rpartition(", line ")
    return f"{pathlib.Path(path).name}:{line}"
