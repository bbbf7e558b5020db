"""Finds, opens and checks the safetensors files of a model directory by their headers."""

import contextlib
import hashlib
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open

from rsd_jax.errors import CheckpointError
from rsd_jax.records.json_objects import json_value

CONFIG = "config.json"
ADAPTER_CONFIG = "adapter_config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
HEAD = "lm_head.weight"
TABLE_END = "embed_tokens.weight"
"""The end of the name of the embedding, behind the names of the modules around it."""
_MODEL = "model."  # a model without a head is stored without this start of its names
MATRIX = ".weight"
"""The end of the name of a matrix, behind the name of its module."""
_FLOATS = ("F64", "F32", "F16", "BF16")  # names of dtypes in the safetensors format
_PIECE = 1 << 22  # bytes that are hashed at once
_ROWS = 4096  # rows of a table that are compared at once


class Stored(NamedTuple):
    """The place of a tensor: an open safetensors file, or one that is read alike, and its path."""

    file: Any
    path: pathlib.Path


def some(names: list[str]) -> str:
    """The first three names, and the number of further names."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def existing_directory(directory: str | os.PathLike[str]) -> pathlib.Path:
    """`directory` as a path; raises `CheckpointError` if it is not a directory."""
    path = pathlib.Path(directory)
    if not path.is_dir():
        raise CheckpointError(
            f"{path} is not a directory; give the path of a downloaded Hugging Face model "
            f"({CONFIG} and *.safetensors). A model may also be named OWNER/NAME, as on the Hub, "
            "where OWNER is no folder here"
        )
    return path


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """The JSON object in `path`; raises `CheckpointError` if the file holds anything else."""
    try:
        content = json_value(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON ({error}); copy it again") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} does not hold a JSON object; copy it again")
    return content


def _promised(index: pathlib.Path) -> dict[pathlib.Path, list[str]]:
    """The shards that an index names, each with the tensors that the index places there."""
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index} has no weight_map; copy it again")
    files: dict[pathlib.Path, list[str]] = {}
    for tensor, name in weight_map.items():
        if not isinstance(name, str) or name != os.path.basename(name):
            raise CheckpointError(f"{index} places {tensor} in {name!r}, not in a file beside it")
        files.setdefault(index.parent / name, []).append(tensor)
    absent = sorted(path.name for path in files if not _is_file(path))
    if absent:
        raise CheckpointError(f"{index} names files that are missing: {absent}; download them")
    return files


def _is_file(path: pathlib.Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that no file can have
        return False


def _weight_files(directory: pathlib.Path) -> dict[pathlib.Path, list[str]]:
    """The weight files, each with the tensors that it must hold (empty without an index)."""
    if (directory / WEIGHTS).is_file():
        return {directory / WEIGHTS: []}
    if (directory / INDEX).is_file():
        return _promised(directory / INDEX)
    advice = "; copy the weights there"
    other = sorted(path.name for path in directory.glob("*.bin"))
    if other:
        advice = (
            f"; it holds {other[0]}, a format that is not read: convert it with transformers, "
            "from_pretrained(directory).save_pretrained(directory)"
        )
    raise CheckpointError(f"{directory} holds neither {WEIGHTS} nor {INDEX}{advice}")


def open_file(path: pathlib.Path, stack: contextlib.ExitStack) -> Any:
    """Opens one file, which `stack` closes; raises `CheckpointError` if the file is damaged."""
    try:
        return stack.enter_context(safe_open(path, framework="numpy"))
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is truncated or not a safetensors file ({error}); download it again (if it "
            "is a small text file, a git-lfs pointer, run git lfs pull)"
        ) from None


def open_weights(directory: pathlib.Path, stack: contextlib.ExitStack) -> dict[str, Stored]:
    """Opens every weight file of `directory`; `stack` closes the files.

    Returns:
      Every tensor of the directory by its name, of shards those that the index names; only headers
      have been read.

    Raises:
      CheckpointError: there are no weights; files are missing, truncated or damaged; or files lack
        tensors that the index places there.
    """
    found: dict[str, Stored] = {}
    for path, promised in _weight_files(directory).items():
        file = open_file(path, stack)
        names = set(file.keys())
        absent = sorted(set(promised) - names)
        if absent:
            raise CheckpointError(
                f"{path} lacks {some(absent)}, which {INDEX} places there; download both again"
            )
        # The index says what counts: tools that convert or merge weights leave more in the shards.
        found |= {name: Stored(file, path) for name in promised or names}
    return found


def files_sha256(path: pathlib.Path) -> str:
    """SHA-256 of the weight files of a directory, or of a GGUF file, in hexadecimal.

    Shards are read one after the other, in the order of their names.

    Raises:
      CheckpointError: the directory holds no weights.
    """
    digest = hashlib.sha256()
    for file in sorted(_weight_files(path)) if path.is_dir() else [path]:
        with file.open("rb") as content:
            while piece := content.read(_PIECE):
                digest.update(piece)
    return digest.hexdigest()


def table_name(names: Iterable[str]) -> str:
    """The name of the embedding, of all names of a model's tensors."""
    return next(name for name in names if name.endswith(TABLE_END))


def check_tensors(
    directory: pathlib.Path, found: Mapping[str, Stored], expected: Mapping[str, tuple[int, ...]]
) -> None:
    """Checks that `found` holds exactly the tensors of `expected`, a shape for each name.

    `directory` may be a GGUF file.

    `*.rotary_emb.inv_freq`, a constant that old versions stored, is ignored. A model that ties its
    head to the embedding may hold a head that equals the embedding; only then are values read. Or
    the model may hold the head alone, which then is the embedding too (see `stored_under`).

    Raises:
      CheckpointError: tensors are missing, unexpected, of the wrong shape or not floating point.
    """
    told = CONFIG if directory.is_dir() else "metadata"  # a GGUF file has no config.json
    places = {name: stored_under(name, found, expected) for name in expected}
    missing = [name for name, place in places.items() if place not in found]
    extra = sorted(set(found) - set(places.values()) - {HEAD})
    extra = [name for name in extra if not name.endswith(".rotary_emb.inv_freq")]
    if missing:
        hint = f"; check that the weights belong to this {told}"
        if missing == [HEAD]:
            hint = "; if the model reuses its embedding as head, set tie_word_embeddings to true"
        instead = f" and holds instead {some(extra)}" if extra else ""
        raise CheckpointError(f"{directory} lacks the tensors {some(missing)}{instead}{hint}")
    if extra:
        raise CheckpointError(
            f"{directory} holds {some(extra)}, which its {told} does not call for; check "
            "num_hidden_layers, attention_bias, mlp_bias or enable_bias there"
        )
    table = table_name(expected)
    tied = HEAD in found and places[table] != HEAD and HEAD not in expected
    shapes = {places[name]: shape for name, shape in expected.items()}
    for name, shape in (shapes | ({HEAD: expected[table]} if tied else {})).items():
        header = found[name].file.get_slice(name)
        got, kind = tuple(header.get_shape()), header.get_dtype()
        if got != shape:
            raise CheckpointError(
                f"{name} in {found[name].path} has shape {list(got)}, expected {list(shape)} by "
                f"{told}; correct the one that is wrong"
            )
        if kind not in _FLOATS:
            raise CheckpointError(
                f"{name} in {found[name].path} is {kind}; only {', '.join(_FLOATS)} are read, so "
                "quantised weights must be converted first"
            )
    if tied:
        _check_tied_head(found, places[table])


def stored_under(name: str, found: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """The name under which a directory holds a tensor.

    The directory of a model without a head has names that do not start with "model.", as in
    transformers. `save_model` of safetensors writes one of two tied tables, which may be the head.

    Args:
      name: of the tensor in the model.
      found: tensors of the directory, by name.
      expected: tensors of the model, by name.
    """
    if name in found:
        return name
    if (short := name.removeprefix(_MODEL)) in found:
        return short
    only_head = name.endswith(TABLE_END) and HEAD in found and HEAD not in expected
    return HEAD if only_head else name


def _check_tied_head(found: Mapping[str, Stored], table: str) -> None:
    head_rows, table_rows = (found[name].file.get_slice(name) for name in (HEAD, table))
    count = head_rows.get_shape()[0]
    for start in range(0, count, _ROWS):
        rows = slice(start, min(start + _ROWS, count))
        if not np.array_equal(head_rows[rows], table_rows[rows]):
            raise CheckpointError(
                f"{HEAD} in {found[HEAD].path} differs from {table}, but {CONFIG} ties them; set "
                f"tie_word_embeddings to false to use the head, or remove {HEAD}"
            )
