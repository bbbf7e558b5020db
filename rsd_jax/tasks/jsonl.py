"""Reading the objects of a JSONL file, one per line, in UTF-8; and the task `jsonl`.

The task `jsonl` decodes the user's own prompts. A line of its file has the field `prompt`, and may
have `reference` and `name`. The model is given the prompt as it is, or as the text of the user in
a chat.
"""

import codecs
import json
import pathlib
from collections.abc import Sequence
from typing import Any

from rsd_jax.errors import ConfigError
from rsd_jax.tasks.base import PLAIN, Task
from rsd_jax.tasks.prompts import Prompt
from rsd_jax.tasks.scoring import METRICS
from rsd_jax.tasks.templates import Template, choose

FIELDS = ("prompt", "reference", "name")
TEMPLATES = (Template(PLAIN), Template("chat", chat=True))
_MAX_NEW_TOKENS = 256


def jsonl_task(
    *, path: str | pathlib.Path, template: str | None = None, metric: str | None = None
) -> Task:
    """A task of the user's own prompts.

    `dataclasses.replace` gives it another name, `stop` or `max_new_tokens`.

    Args:
      path: the file.
      template: "plain", the default, for the prompts as they are; or "chat", see `chat_turns`.
      metric: one of `METRICS`, which scores the answers; None: answers are not scored.

    Raises:
      ConfigError: the template or metric is unknown; the file is missing or empty; a line is
        invalid, or has no reference although a metric is given. Names file and line.
    """
    chosen = choose(TEMPLATES, template, "jsonl")
    if metric is not None and metric not in METRICS:
        raise ConfigError(f"metric={metric!r} must be None or one of {METRICS}")
    records = []
    for where, values in read_objects(path):
        check_fields(values, FIELDS, where)
        reference = values.get("reference")
        if metric is not None and reference is None:
            raise ConfigError(f"{where}: no field 'reference', which metric={metric!r} needs")
        name = text_of(values, "name", where) if "name" in values else default_name(where)
        reference = None if reference is None else text_of(values, "reference", where)
        records.append((name, text_of(values, "prompt", where), reference, where))
    check_names([(name, where) for name, _, _, where in records])
    if chosen.chat:
        records = [(n, text, ref and f" {ref.strip()}", where) for n, text, ref, where in records]
    # Without chat, the reference continues the prompt, and leading white space may be part of it.
    prompts = [Prompt(name, chosen.render([text]), ref or "") for name, text, ref, _ in records]
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
            values = json.loads(text)
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
