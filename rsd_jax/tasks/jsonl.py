"""Objects of a JSONL file, one a line, in UTF-8; and any prompts from one as a task.

A line of the task `jsonl` has the field `prompt`, and may have `reference` and `name`. The prompt
is given to the model as it is, or as what the user says in a chat.
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
      template: "plain", the prompts as they are, by default; or "chat", see `chat_turns`.
      metric: what answers are scored with, one of `METRICS`; None: they are not.

    Raises:
      ConfigError: the template or metric is unknown; the file is missing or empty, or a line is not
        as it should be; a metric is given, and a line has no reference. Names file and line.
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
    # Otherwise the reference goes on where the prompt ends, and white space may be a part of it.
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

    Lines of white space alone are left out.

    Raises:
      ConfigError: the file is missing, cannot be read or is empty, or a line is not such an object.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise ConfigError(f"path={str(path)!r} is not a file; give a JSONL file")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error})") from None
    objects = []
    # Not by `splitlines` of the text, which also splits at characters that JSON does not escape.
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
    """A field that has to be a string with more than white space in it.

    Raises:
      ConfigError: it is not; says `where`.
    """
    if field not in values:
        raise ConfigError(f"{where}: no field {field!r}; it has {sorted(values)[:9]}")
    return check_text(values[field], f"{where}: the field {field!r}")


def check_text(text: Any, what: str) -> str:
    """The text, if it is one that can be encoded and is not blank; errors start with `what`.

    Raises:
      ConfigError: it is not.
    """
    if not isinstance(text, str):
        raise ConfigError(f"{what} is {type(text).__name__}, not a string")
    if not text.strip():
        raise ConfigError(f"{what} is blank")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{what} holds half a character") from None
    return text


def check_fields(values: dict[str, Any], known: Sequence[str], where: str) -> None:
    """A misspelled field would be a reference that is not there.

    Raises:
      ConfigError: there is a field that is not known.
    """
    if unknown := sorted(set(values) - set(known)):
        raise ConfigError(f"{where}: unknown fields {unknown[:9]}; known ones: {list(known)}")


def check_names(names: Sequence[tuple[str, str]]) -> None:
    """Raises ConfigError if a name, given with where it stands, is given twice."""
    known: dict[str, str] = {}
    for name, where in names:
        if name in known:
            raise ConfigError(f"{where}: the name {name!r} is also that of {known[name]}")
        known[name] = where


def default_name(where: str) -> str:
    """The file without its folder, and the line: `prompts.jsonl:3`."""
    path, _, line = where.rpartition(", line ")
    return f"{pathlib.Path(path).name}:{line}"
