"""Responses on disk: numbered shards, each of them complete or not there.

`shard-00000.npz` is a NumPy archive with the fields of `Shard`, the `version` of this format and
the `config_hash` of the manifest beside it (`manifest`).
"""

import dataclasses
import pathlib
import zipfile
import zlib

import numpy as np

from rsd_jax.errors import CheckpointError
from rsd_jax.records.complete_files import complete_file

VERSION = 1
"""Of the format of manifest and shards."""

_REPEAT = "delete it and run the generate stage again"


@dataclasses.dataclass(frozen=True, eq=False)
class Shard:
    """Prompts and their responses, S sequences of N tokens in all, R of them in responses.

    Attributes:
      tokens: u16[N] or u32[N], see `token_dtype`: prompt, response, prompt, response, ...
      length: i32[S], tokens of each sequence.
      prompt_length: i32[S], how many of them are the prompt's.
      request_id: i32[S], with the seed what a response's draws come from.
      temperature: f64[S].
      ended: bool[S], whether the response ended by itself, with EOS.
      name: str[S], of the prompt.
      top_ids: u16[R, K] or u32[R, K]; for each response token the K likeliest tokens of the
        target at that place, in descending order; None where they were not asked for.
      top_logprobs: f32[R, K] or None, their log probabilities at temperature 1, without top-k
        and top-p: logits up to a constant.
      rest_logprob: f32[R] or None, the log of the mass of all other tokens.
    """

    tokens: np.ndarray
    length: np.ndarray
    prompt_length: np.ndarray
    request_id: np.ndarray
    temperature: np.ndarray
    ended: np.ndarray
    name: np.ndarray
    top_ids: np.ndarray | None = None
    top_logprobs: np.ndarray | None = None
    rest_logprob: np.ndarray | None = None


TOP_FIELDS = ("top_ids", "top_logprobs", "rest_logprob")
_FIELDS = tuple(f.name for f in dataclasses.fields(Shard) if f.name not in TOP_FIELDS)


def token_dtype(vocab_size: int) -> np.dtype:
    """The narrower of u16 and u32 that holds every token id."""
    return np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.uint32)


def shard_path(directory: pathlib.Path, index: int) -> pathlib.Path:
    """Where shard `index` is, counted from 0."""
    return directory / f"shard-{index:05d}.npz"


def write_shard(directory: pathlib.Path, index: int, shard: Shard, config_hash: str) -> None:
    """Writes one shard of the run whose manifest has this hash; equal shards are equal bytes."""
    arrays = {f.name: getattr(shard, f.name) for f in dataclasses.fields(shard)}
    arrays = {name: array for name, array in arrays.items() if array is not None}
    with complete_file(shard_path(directory, index)) as file:
        np.savez(file, version=np.int32(VERSION), config_hash=np.asarray(config_hash), **arrays)


def read_shard(
    directory: pathlib.Path, index: int, config_hash: str, *, top: bool = False
) -> Shard:
    """Reads what `write_shard` wrote; `top_ids` and what belongs to them only with `top`.

    Raises:
      CheckpointError: the shard is missing, truncated, of another run or of another version.
    """
    names = _FIELDS + (TOP_FIELDS if top else ())
    path = shard_path(directory, index)
    shard = Shard(**_load(path, config_hash, names))
    if len(shard.tokens) != shard.length.sum():
        raise CheckpointError(f"{path} has lengths that are not its tokens'; {_REPEAT}")
    return shard


def check_shard(directory: pathlib.Path, index: int, config_hash: str) -> None:
    """The errors of `read_shard`, as far as they show without reading the tokens."""
    _load(shard_path(directory, index), config_hash, ())


def _load(path: pathlib.Path, config_hash: str, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise CheckpointError(f"{path} is missing; run the generate stage to its end")
    try:
        with path.open("rb") as file, np.load(file) as archive:
            version, found = int(archive["version"]), str(archive["config_hash"])
            # Another version may lack the rest.
            current = version == VERSION and found == config_hash
            arrays = {name: archive[name] for name in names} if current else {}
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise CheckpointError(f"{path} is truncated or damaged ({error}); {_REPEAT}") from None
    if version != VERSION:
        raise CheckpointError(
            f"{path} has version {version} of the format, this is version {VERSION}; {_REPEAT}"
        )
    if found != config_hash:
        raise CheckpointError(
            f"{path} belongs to another run than the manifest beside it; {_REPEAT}"
        )
    return arrays
