"""A downloader in place of that of the Hugging Face Hub; opens no socket."""

import pathlib
import shutil
import types
from typing import Any

import huggingface_hub

from rsd_jax.models import hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Serves one folder under every name, and records what was asked.

    Attributes:
      asked: arguments of each question for a commit.
      fetched: arguments of each download.
      error: raised instead of an answer to the question for a commit.
      refusal: raised instead of a download.
    """

    def __init__(self, files: pathlib.Path | None, cache: pathlib.Path, patch: Any):
        self.asked: list[dict[str, Any]] = []
        self.fetched: list[dict[str, Any]] = []
        self.error: Exception | None = None
        self.refusal: Exception | None = None
        self._files, self._folder = files, cache / "snapshots" / COMMIT
        patch.setattr(huggingface_hub, "HfApi", lambda: self)
        patch.setattr(huggingface_hub, "snapshot_download", self._download)
        hub._snapshot.cache_clear()

    def model_info(self, name, **options):
        self.asked.append({"name": name, **options})
        if self.error is not None:
            raise self.error
        return types.SimpleNamespace(sha=COMMIT)

    def _download(self, name, **options):
        self.fetched.append({"name": name, **options})
        if self.refusal is not None:
            raise self.refusal
        shutil.copytree(self._files, self._folder, dirs_exist_ok=True)
        return str(self._folder)
