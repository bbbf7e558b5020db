"""What methods and trees are expected to do for a pair, a text and a machine, in one file.

`rsd_jax.planning.calibrate` makes it: block efficiency is computed, not counted, and the seconds
of prompts and blocks are measured.
"""

import dataclasses
import math
import os
import pathlib
from typing import Any, NamedTuple, Self

from rsd_jax.core.identity import row_digest
from rsd_jax.core.types import LoadedModel
from rsd_jax.engine.methods import Method, method_of_tree
from rsd_jax.errors import ConfigError
from rsd_jax.records.complete_files import write_json
from rsd_jax.records.hardware import Hardware, current_versions
from rsd_jax.records.json_objects import build, json_object
from rsd_jax.records.rows import Row, own_verifier

VERSION = 2
"""Of the file's format."""


class Candidate(NamedTuple):
    """A method with its tree, its verifier and its draft's warp; "" is the verifier of "ar"."""

    method: str
    tree: str
    verifier: str
    draft_temperature: float | None = None
    draft_top_k: int | None = None

    @classmethod
    def of_row(cls, row: Row) -> Self:
        """What a row measured."""
        verifier = "" if row.method == "ar" else row.verifier or ""
        return cls(row.method, row.tree, verifier, row.draft_temperature, row.draft_top_k)

    @property
    def words(self) -> str:
        """A label; the verifier is named unless it is the method's own."""
        if self.method == "ar":
            return "ar"
        words = [self.method, self.tree]
        if self.verifier != own_verifier(self.method):
            words.append(self.verifier)
        if self.draft_temperature is not None:
            words.append(f"draft T = {self.draft_temperature:g}")
        if self.draft_top_k is not None:
            words.append(f"draft top-k {self.draft_top_k}")
        return " ".join(words)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Conditions:
    """What a calibration holds for.

    Attributes:
      target, draft: digests of the weights, see `row_digest`; "" without a draft.
      weights: of both together, as in rows.
      vocab_size: of the target.
      dtype: of the target's arithmetic.
      hardware: of the machine that was timed.
      prompts: how many prompts were decoded.
      prompts_sha256: of their token ids.
      max_new_tokens: of each prompt.
      timed_rows, timed_batches: rows of a timed batch, and how many batches were timed.
      top_k, top_p: filters of all runs.
    """

    target: str
    draft: str
    weights: str
    vocab_size: int
    dtype: str
    hardware: Hardware
    prompts: int
    prompts_sha256: str
    max_new_tokens: int
    timed_rows: int
    timed_batches: int
    top_k: int | None = None
    top_p: float = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Expected:
    """What one method is expected to do at one temperature.

    Attributes:
      method, tree, verifier: as in rows.
      temperature: of the target.
      tokens: expected tokens of a block, the mean over blocks.
      standard_error: of `tokens`, from the differences between prompts.
      blocks: how many contexts were seen.
      nodes: most nodes of a target pass, the root included.
      seconds: of a block of one batch, the mean over the blocks of whole answers.
      prompt_seconds: of the pass over the prompts of a batch, the mean over batches.
      answer: tokens of an answer, the mean over prompts and runs; the limit if nothing but "ar" was
        calibrated, which needs no run.
      draft_temperature, draft_top_k: of the method, None if not its own.
    """

    method: str
    tree: str
    verifier: str
    temperature: float
    tokens: float
    standard_error: float
    blocks: int
    nodes: int
    seconds: float
    prompt_seconds: float
    answer: float
    draft_temperature: float | None = None
    draft_top_k: int | None = None

    @property
    def candidate(self) -> Candidate:
        """What the entry is of."""
        verifier = "" if self.method == "ar" else self.verifier
        warp = self.draft_temperature, self.draft_top_k
        return Candidate(self.method, self.tree, verifier, *warp)

    @property
    def tokens_per_second(self) -> float:
        """Tokens of one answer over its expected seconds, those of its prompt included.

        A last block that goes on beyond the limit of an answer is counted as if it ended there.
        """
        return self.answer / (self.prompt_seconds + self.answer / self.tokens * self.seconds)

    def build(self) -> Method:
        """The method.

        Raises:
          ConfigError: it is none; the file was changed by hand.
        """
        shared = {} if self.method == "ar" else {"verifier": self.verifier}
        options = {"draft_temperature": self.draft_temperature, "draft_top_k": self.draft_top_k}
        return method_of_tree(self.method, self.tree, **shared, **options)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibration:
    """Expected tokens and measured seconds of methods.

    Attributes:
      conditions: what it holds for.
      expected: an entry per method and temperature.
      software: versions.
    """

    conditions: Conditions
    expected: tuple[Expected, ...]
    software: dict[str, str] = dataclasses.field(default_factory=current_versions)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the file, whole or not at all.

        Raises:
          OSError: it cannot be written.
        """
        write_json(pathlib.Path(path), {"calibration": VERSION, **dataclasses.asdict(self)})

    def check(
        self,
        target: LoadedModel,
        draft: LoadedModel | None,
        *,
        top_k: int | None = None,
        top_p: float = 1.0,
    ) -> None:
        """Raises `ConfigError` that names what differs if models, machine or filters are others."""
        known, here = self.conditions, identity(target, draft) | {"top_k": top_k, "top_p": top_p}
        different = [
            f"{name} {getattr(known, name)} there, {value} here"
            for name, value in here.items()
            if getattr(known, name) != value
        ]
        if different:
            raise ConfigError(
                f"the calibration is of something else: {'; '.join(different)}; calibrate again"
            )

    def at(self, temperature: float) -> list[Expected]:
        """The entries of one temperature, the fastest first.

        Raises:
          ConfigError: nothing was calibrated at this temperature.
        """
        found = [each for each in self.expected if each.temperature == temperature]
        if not found:
            known = sorted({each.temperature for each in self.expected})
            raise ConfigError(
                f"temperature={temperature:g} was not calibrated, only {known}; calibrate there"
            )
        return sorted(found, key=lambda each: -each.tokens_per_second)

    def best(
        self,
        temperature: float,
        *,
        max_nodes: float = math.inf,
        max_seconds: float = math.inf,
    ) -> Expected:
        """The method with the most expected tokens per second.

        Args:
          temperature: of the target.
          max_nodes: most nodes of a target pass, the root included.
          max_seconds: most seconds of a block.

        Raises:
          ConfigError: no method fits; the message names the nearest. Or as `at`.
        """
        found = self.at(temperature)
        for each in found:
            if each.nodes <= max_nodes and each.seconds <= max_seconds:
                return each
        near = min(found, key=lambda each: max(each.nodes / max_nodes, each.seconds / max_seconds))
        raise ConfigError(
            f"no calibrated method has at most {max_nodes:g} nodes in a pass and "
            f"{max_seconds:g} s in a block; the nearest, {near.method} {near.tree}, has "
            f"{near.nodes} nodes and {near.seconds:.2g} s"
        )


def identity(target: LoadedModel, draft: LoadedModel | None) -> dict[str, Any]:
    """The fields of `Conditions` that models and machine give."""
    return {
        "target": row_digest(target),
        "draft": "" if draft is None else row_digest(draft),
        "vocab_size": int(target.model.vocab_size),
        "dtype": target.model.dtype,
        "hardware": Hardware.current(),
    }


def load_calibration(path: str | os.PathLike[str]) -> Calibration:
    """Reads a file of `Calibration.save`.

    Raises:
      ConfigError: it cannot be read or is not such a file; the message names the problem.
    """
    name = f"calibration {os.fspath(path)}"
    try:
        text = pathlib.Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{name} cannot be read: {error.strerror}") from None
    values = json_object(text, f"{name}: ")
    if (version := values.pop("calibration", None)) != VERSION:
        raise ConfigError(f"{name} is of version {version!r}, not {VERSION}; calibrate again")
    try:
        return build(Calibration, values)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None
