"""Data sets that TensorFlow Datasets has prepared on disk; records are read without TensorFlow.

`tfds.builder_from_directory` makes a builder from the files of a data set alone, and the builder's
data source reads any record of ArrayRecord files with numpy. The code of the data set, which may
need TensorFlow, is not imported.
"""

import dataclasses
import os
import pathlib
import re
import shlex
from collections.abc import Sequence
from typing import Any

from rsd_jax.errors import ConfigError

_INSTALL = "pip install -e '.[datasets]'"


@dataclasses.dataclass(frozen=True)
class DataSet:
    """A data set of TensorFlow Datasets and one of its splits.

    Attributes:
      builders: names of builders, with the configuration behind a slash, in the order in which they
        are looked for; all give the same records.
      split: name of the split.
      fields: names of the texts that every record has.
      prepare: command that downloads the data set and writes it in the format ArrayRecord.
    """

    builders: tuple[str, ...]
    split: str
    fields: tuple[str, ...]
    prepare: str


class Records(Sequence[dict[str, str]]):
    """The records of a split, each a dict of texts; a record is read when it is indexed."""

    def __init__(self, data_source: Sequence, place: str, otherwise: str):
        """Takes the records of `data_source`.

        Args:
          data_source: from TensorFlow Datasets.
          place: where the records are, for error messages.
          otherwise: how to repair them, for error messages.
        """
        self._data_source, self._place, self._otherwise = data_source, place, otherwise

    def __len__(self) -> int:
        return len(self._data_source)

    def __getitem__(self, index: Any) -> Any:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        try:
            record = self._data_source[index]
            return {field: text.decode() for field, text in record.items()}
        except Exception as error:
            raise ConfigError(
                f"record {index} of {self._place} cannot be read ({error}); {self._otherwise}"
            ) from error


def open_data_set(data_set: DataSet, data_dir: str | pathlib.Path | None, task: str) -> Records:
    """The records of a data set's split; the first record is read, to check that it can be read.

    Args:
      data_set: the data set and its split.
      data_dir: where TensorFlow Datasets keeps its data; by default its own default, the
        environment variable TFDS_DATA_DIR or else ~/tensorflow_datasets.
      task: name of the task, for error messages.

    Raises:
      ConfigError: the data set is missing (the error says how to prepare it); it is in a format
        without random access, is damaged, or has other fields; TensorFlow Datasets is not
        installed.
    """
    root = pathlib.Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
    root = root.expanduser()
    prepare = f"export TFDS_DATA_DIR={shlex.quote(str(root))}\n{data_set.prepare}"
    found = [version for name in data_set.builders if (version := _newest(root / name))]
    if not found:
        looked = " and ".join(str(root / name) for name in data_set.builders)
        raise ConfigError(
            f"the data set of the task {task!r} is not in {looked}. Prepare it:\n\n"
            f"{_INSTALL}\n{prepare}\n\n"
            "If it is elsewhere, give data_dir or set TFDS_DATA_DIR. Or give path, a JSONL file "
            "with the fields prompt and reference, or with those of the data set: "
            f"{', '.join(data_set.fields)}"
        )
    return _open(data_set, found[0], prepare)


def _newest(directory: pathlib.Path) -> pathlib.Path | None:
    """The folder of the highest version of a data set; None if there is none."""
    versions = {
        tuple(map(int, path.parent.name.split("."))): path.parent
        for path in directory.glob("*/dataset_info.json")
        if re.fullmatch(r"\d+\.\d+\.\d+", path.parent.name)
    }
    return versions[max(versions)] if versions else None


def _open(data_set: DataSet, directory: pathlib.Path, prepare: str) -> Records:
    try:
        import tensorflow_datasets as tfds
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{directory} is read by TensorFlow Datasets, which cannot be imported ({error}): "
            f"{_INSTALL}"
        ) from None
    otherwise = f"prepare it again, once that folder is gone:\n\n{prepare}"
    # Damaged files can raise any error of several libraries.
    try:
        builder = tfds.builder_from_directory(str(directory))
        splits, features = list(builder.info.splits), set(builder.info.features)
    except Exception as error:
        raise ConfigError(f"{directory} cannot be read ({error}); {otherwise}") from error
    if data_set.split not in splits:
        raise ConfigError(
            f"{directory} has the splits {splits}, not {data_set.split!r}; {otherwise}"
        )
    if missing := sorted(set(data_set.fields) - features):
        raise ConfigError(
            f"{directory} has no fields {missing}, but {sorted(features)}; {otherwise}"
        )
    try:
        source = builder.as_data_source(data_set.split)
    except NotImplementedError:
        raise ConfigError(
            f"{directory} is in the format {builder.info.file_format.value}, which has no random "
            f"access; {otherwise}"
        ) from None
    except Exception as error:
        raise ConfigError(f"{directory} cannot be read ({error}); {otherwise}") from error
    records = Records(source, str(directory), otherwise)
    if not records:
        raise ConfigError(f"the split {data_set.split!r} of {directory} is empty; {otherwise}")
    records[0]
    return records
