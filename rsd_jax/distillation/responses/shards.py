"""Responses on disk, in numbered shards; a shard that exists is complete.

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
"""Version of the format of manifest and shards."""

_REPEAT = "delete it and run the generate stage again"
# What numpy and zipfile raise for a file that is not as it was written; a damaged header may name a
# huge array, an encryption or another compression (RuntimeError).
_DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    TypeError,
    MemoryError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclasses.dataclass(frozen=True, eq=False)
class Shard:
    """Prompts and responses: S sequences with N tokens in all, of which R are in responses.

    Attributes:
      tokens: u16[N] or u32[N], see `token_dtype`: prompt, response, prompt, response, ...
      length: i32[S], tokens of each sequence.
      prompt_length: i32[S], tokens of each prompt.
      request_id: i32[S]; a response's draws depend on request id and seed.
      temperature: f64[S].
      ended: bool[S], whether the response ended with EOS.
      name: str[S], of the prompt.
      top_ids: u16[R, K] or u32[R, K], the target's K likeliest tokens at the place of each
        response token, in descending order; None if they were not asked for.
      top_logprobs: f32[R, K] or None, log probabilities of `top_ids` at temperature 1, without
        top-k and top-p: logits up to a constant.
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
    """u16 if it holds every token id, else u32."""
    return np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.uint32)


def shard_path(directory: pathlib.Path, index: int) -> pathlib.Path:
    """The file of shard `index`, counted from 0."""
    return directory / f"shard-{index:05d}.npz"


def write_shard(directory: pathlib.Path, index: int, shard: Shard, config_hash: str) -> None:
    """Writes one shard of the run whose manifest has this hash; equal shards give equal bytes."""
    arrays = {f.name: getattr(shard, f.name) for f in dataclasses.fields(shard)}
    arrays = {name: array for name, array in arrays.items() if array is not None}
    with complete_file(shard_path(directory, index)) as file:
        np.savez(file, version=np.int32(VERSION), config_hash=np.asarray(config_hash), **arrays)


def read_shard(
    directory: pathlib.Path, index: int, config_hash: str, *, top: bool = False
) -> Shard:
    """Reads a shard of `write_shard`; the fields `TOP_FIELDS` only with `top`.

    Raises:
      CheckpointError: the shard is missing, truncated, of another run or of another version.
    """
    names = _FIELDS + (TOP_FIELDS if top else ())
    path = shard_path(directory, index)
    shard = Shard(**_load(path, config_hash, names))
    if len(shard.tokens) != shard.length.sum():
        raise CheckpointError(f"{path} has lengths that do not add up to its tokens; {_REPEAT}")
    return shard


def check_shard(directory: pathlib.Path, index: int, config_hash: str) -> None:
    """Raises the errors of `read_shard` that can be found without reading the tokens."""
    _load(shard_path(directory, index), config_hash, ())


def _load(path: pathlib.Path, config_hash: str, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise CheckpointError(f"{path} is missing; run the generate stage to its end")
    try:
        with path.open("rb") as file, np.load(file) as archive:
            version, found = int(archive["version"]), str(archive["config_hash"])
            # Another version may lack these arrays.
            current = version == VERSION and found == config_hash
            arrays = {name: archive[name] for name in names} if current else {}
    except _DAMAGE as error:
        reason = str(error)[:200]  # may quote the whole file
        raise CheckpointError(f"{path} is truncated or damaged ({reason}); {_REPEAT}") from None
    if version != VERSION:
        raise CheckpointError(f"{path} has format version {version}, expected {VERSION}; {_REPEAT}")
    if found != config_hash:
        raise CheckpointError(
            f"{path} belongs to another run than the manifest in its directory; {_REPEAT}"
        )
    return arrays
