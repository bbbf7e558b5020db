"""Models by their names on the Hugging Face Hub: "owner/name", or "owner/name@revision".

A revision is a branch, a tag or a commit, written as in the paths of the library's file system.
"""

import functools
import os
import pathlib
import re
from typing import Any

from rsd_jax.core.types import Origin
from rsd_jax.errors import CheckpointError
from rsd_jax.models.gguf_files import is_gguf
from rsd_jax.models.weight_files import files_sha256

# Weights under the names that are read here, not copies of the weights in other formats.
_FILES = (
    "model.safetensors",
    "model-*.safetensors",
    "*.json",
    "*.jinja",
    "tokenizer.model",
    "merges.txt",
)
_SECONDS = 10.0  # until the Hub has to answer
_NAME = re.compile(r"(\w[\w.-]*)/(\w[\w.-]*)(?:@(\S+))?", re.ASCII)


def hub_name(path: str | os.PathLike[str]) -> tuple[str, str | None] | None:
    """Name and revision (None for the Hub's default) of a model on the Hub; None for a path.

    A name is a string of two parts. It is a path if there is a file or folder of this name, or a
    folder of the name's first part.
    """
    if not isinstance(path, str) or is_gguf(path) or os.path.lexists(path):
        return None
    found = _NAME.fullmatch(path)
    if found is None or os.path.isdir(found[1]):
        return None
    return f"{found[1]}/{found[2]}", found[3]


def local_path(path: str | os.PathLike[str]) -> pathlib.Path:
    """The path of a model; a model of the Hub is downloaded, if its files are not there yet.

    Raises:
      CheckpointError: the Hub cannot be reached, or it refuses the model.
    """
    name = hub_name(path)
    return pathlib.Path(path) if name is None else _snapshot(*name)


def origin_of(path: str | os.PathLike[str]) -> Origin | None:
    """Where a model of the Hub came from; None for a path. Reads the weights; errors as above."""
    name = hub_name(path)
    if name is None:
        return None
    folder = _snapshot(*name)
    return Origin(f"{name[0]}@{folder.name}", files_sha256(folder))


# Weights and tokenizer of a process are of one commit.
@functools.cache
def _snapshot(name: str, revision: str | None) -> pathlib.Path:
    """The folder of a model's files; the last part of its path is the commit."""
    import huggingface_hub
    from huggingface_hub import errors

    def fetch(**options: Any) -> pathlib.Path:
        folder = huggingface_hub.snapshot_download(
            name, allow_patterns=list(_FILES), etag_timeout=_SECONDS, **options
        )
        return pathlib.Path(folder)

    reason: Exception | None = None
    try:
        commit = huggingface_hub.HfApi().model_info(name, revision=revision, timeout=_SECONDS).sha
        options: dict[str, Any] = {"revision": commit}
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise CheckpointError(_advice(name, revision, error)) from None
    except Exception as error:  # the libraries that ask the Hub have errors of their own
        reason, options = error, {"revision": revision, "local_files_only": True}
    try:
        return fetch(**options)
    except Exception as error:
        raise CheckpointError(_advice(name, revision, reason or error)) from None


def _advice(name: str, revision: str | None, error: Exception) -> str:
    """What to do if a model cannot be had."""
    asked = name if revision is None else f"{name}@{revision}"
    reason = " ".join(str(error).split()) or type(error).__name__
    return (
        f"{asked} is no local folder, and the Hugging Face Hub does not give a model of this name: "
        f"{reason}. For weights that need access, accept their licence on huggingface.co/{name}, "
        "then run `hf auth login` or set HF_TOKEN to your token. For a local folder, give a path "
        f"that exists; ./{asked} never asks the Hub. With HF_HUB_OFFLINE=1 only models that were "
        "downloaded before are found"
    )
