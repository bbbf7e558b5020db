"""Tasks that are made from a data set, in files of TensorFlow Datasets or in a JSONL file."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rsd_jax.errors import ConfigError
from rsd_jax.tasks.base import Task
from rsd_jax.tasks.data_sets import DataSet, Records, open_data_set
from rsd_jax.tasks.jsonl import (
    FIELDS,
    check_fields,
    check_names,
    default_name,
    read_objects,
    text_of,
)
from rsd_jax.tasks.prompts import Prompt
from rsd_jax.tasks.templates import Template, choose


@dataclasses.dataclass(frozen=True)
class _Record:
    name: str
    source: str
    reference: str | None

    @property
    def usable(self) -> bool:
        return bool(self.source.strip())


@dataclasses.dataclass(frozen=True)
class SourceTask:
    """A data set with the settings that make it a task.

    Attributes:
      name: of the task.
      data_set: the data set in TensorFlow Datasets.
      source: the field that a prompt is made from.
      reference: the field that is the right answer.
      context: a field that is appended to the source if it is not blank; None: no such field.
      templates: the default first.
      metric, max_new_tokens: see `Task`.
    """

    name: str
    data_set: DataSet
    source: str
    reference: str
    templates: tuple[Template, ...]
    metric: str | None
    max_new_tokens: int
    context: str | None = None

    def task(
        self,
        *,
        template: str | None = None,
        path: str | pathlib.Path | None = None,
        data_dir: str | pathlib.Path | None = None,
    ) -> Task:
        """The task, with a template applied.

        Records without text are left out. No record is cut, however long. The order is that of the
        files.

        Args:
          template: name of one of the task's templates; None: the first.
          path: a JSONL file to read instead of the data set. A line has either the fields of the
            data set (other fields are ignored), or `prompt`, which is used as the source, and
            optionally `reference` and `name`. If there are no references, the task has no metric.
          data_dir: see `open_data_set`.

        Raises:
          ConfigError: the template is unknown; both `path` and `data_dir` are given; a line does
            not have these fields; see also `open_data_set` and `read_objects`.
        """
        chosen = choose(self.templates, template, self.name)
        if path is not None and data_dir is not None:
            raise ConfigError("path and data_dir are two places to read from; give one of them")
        metric = self.metric
        records: Callable[[], Iterator[_Record]]
        if path is not None:
            lines = self._lines(path)
            records = lambda: iter(lines)  # noqa: E731
            metric = None if lines[0].reference is None else metric
        else:
            found = open_data_set(self.data_set, data_dir, self.name)
            records = lambda: self._records(found)  # noqa: E731

        def first(count: int) -> list[Prompt]:
            usable = (record for record in records() if record.usable)
            # The range comes first: otherwise `zip` would read one record more than it needs.
            return [
                _prompt(record, chosen) for _, record in zip(range(count), usable, strict=False)
            ]

        return Task(
            name=self.name,
            metric=metric,
            stop=chosen.stop,
            max_new_tokens=self.max_new_tokens,
            first=first,
            template=chosen.name,
            templates=tuple(t.name for t in self.templates),
            strip=True,
        )

    def _records(self, found: Records) -> Iterator[_Record]:
        for index in range(len(found)):
            record = self._record(f"{self.name}/{self.data_set.split}/{index}", found[index])
            if record.reference and record.reference.strip():
                yield record

    def _record(self, name: str, values: Mapping[str, str]) -> _Record:
        source = values[self.source].strip()
        context = values[self.context].strip() if self.context else ""
        if source and context:
            source = f"{source}\n\nContext: {context}"
        return _Record(name, source, values[self.reference].strip())

    def _lines(self, path: str | pathlib.Path) -> list[_Record]:
        objects = read_objects(path)
        records = [self._line(where, values) for where, values in objects]
        places = [where for where, _ in objects]
        check_names([(r.name, where) for r, where in zip(records, places, strict=True)])
        for record, where in zip(records, places, strict=True):
            if (record.reference is None) != (records[0].reference is None):
                raise ConfigError(
                    f"{where}: {'no' if record.reference is None else 'a'} reference, unlike "
                    f"{places[0]}; give one in every line or in none"
                )
        return records

    def _line(self, where: str, values: dict[str, Any]) -> _Record:
        name = default_name(where)
        if "prompt" in values:
            check_fields(values, FIELDS, where)
            texts = {field: text_of(values, field, where) for field in values}
            source, reference = texts["prompt"].strip(), texts.get("reference")
            return _Record(texts.get("name", name), source, reference and reference.strip())
        if self.source not in values:
            raise ConfigError(
                f"{where}: no field 'prompt' or {self.source!r}; it has {sorted(values)[:9]}"
            )
        texts = {field: text_of(values, field, where) for field in (self.source, self.reference)}
        if self.context:
            context = values.get(self.context) or ""
            texts[self.context] = context and text_of(values, self.context, where)
        return self._record(name, texts)


def _prompt(record: _Record, template: Template) -> Prompt:
    reference = "" if record.reference is None else f" {record.reference}"
    return template.prompt(record.name, [record.source], reference)
