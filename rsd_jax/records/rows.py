"""The one schema of results: a row per measured cell, a header and a part for what was measured.

A cell is (pair, task, method, verifier, tree, temperature, seed). On disk a row is one flat JSON
object (`Row.flat`); rows are written and read by `rsd_jax.records.files`. To extend the schema add
a field with the default None to a part, or to `Row` where every kind of row can have it, and say
what it means there; rows that lack the field stay readable. Raise `SCHEMA_VERSION` where they are
not. Numbers are finite and not negative; what was not measured is null.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from rsd_jax.records.decoding import Decoding
from rsd_jax.records.hardware import Hardware
from rsd_jax.records.metrics import Interval
from rsd_jax.records.parts import Scores, Search, SkippedPass, Stream, Timing

SCHEMA_VERSION = 3
STATUSES = ("ok", "failed", "skipped")
PARTS: dict[str, type] = {
    "decoding": Decoding,
    "scores": Scores,
    "timing": Timing,
    "stream": Stream,
    "search": Search,
    "skipping": SkippedPass,
}
# By kind: the parts of a finished row, and those that it may have besides.
KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "decoding": (("decoding",), ("scores", "timing")),
    "stream": (("decoding", "stream"), ("search",)),
    "skipping": (("skipping",), ()),
}


FILTERS = {"top_k": "top-k {}", "top_p": "top-p {:g}"}
"""In words: the fields of a row that filter the target's law, besides its temperature."""


def own_verifier(method: str) -> str:
    """The verifier that a method of ours has unless another is asked for."""
    return {"spectr": "k_seq", "self_spectr": "k_seq"}.get(method, "recursive_rejection")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One measured cell: what it is of, and the parts that hold what was measured.

    Attributes:
      source: entry point that wrote the row, e.g. "quickstart".
      kind: of measurement, of `KINDS`; decides which parts the row has.
      experiment: sweep that the row is a cell of, e.g. "experiment1"; null outside of one.
      pair: target and draft.
      task: where the prompts are from.
      template: how the task's text became prompts, e.g. "base", "chat"; null: as it is.
      method: "ar", "sd", "spectr", "rsd_c", "rsd_s", or an outside baseline.
      verifier: in `rsd_jax.verifiers.VERIFIERS`; null for what has none of ours.
      tree: in words: "4", "6x5", "2-2-1"; "-" without one.
      draft_length: L, draft passes per block; 0 for "ar".
      target_budget: nodes that the target scores per block besides the root.
      draft_temperature, draft_top_k: warp of the draft, where it is not the target's.
      temperature, top_k, top_p: warp of the target; temperature 0 is greedy.
      seed: of the draws.
      max_new_tokens: limit per prompt.
      batch_size: rows decoded together.
      dtype: of parameters and caches.
      mesh: sizes by axis name; null for one device.
      context_length: tokens of context where times were taken; null if it varies by prompt.
      status: "ok", "failed" or "skipped".
      message: why, unless "ok".
      num_skipped: prompts left out because the model allows no such length.
      eos_ids: tokens that end an answer.
      prompts_sha256: of the prompts' tokens; equal if and only if the prompts are.
      references_sha256: of what the answers were scored against.
      weights_sha256: of some numbers of every parameter of target and draft; equal weights have
        equal ones.
      config_hash: `config_hash` of the settings of the run; in a sweep, of those that its cells
        share, so that cells can be added.
      hardware: see `Hardware`.
      versions: by library.
      decoding, scores, timing, stream, search, skipping: the parts; null where nothing of the sort
        was measured.
    """

    source: str
    kind: str
    pair: str
    task: str
    method: str
    tree: str
    draft_length: int
    temperature: float
    seed: int
    hardware: Hardware
    versions: dict[str, str]
    schema_version: int = SCHEMA_VERSION
    status: str = "ok"
    message: str | None = None
    experiment: str | None = None
    template: str | None = None
    verifier: str | None = None
    target_budget: int | None = None
    draft_temperature: float | None = None
    draft_top_k: int | None = None
    top_k: int | None = None
    top_p: float = 1.0
    max_new_tokens: int | None = None
    batch_size: int | None = None
    dtype: str | None = None
    mesh: dict[str, int] | None = None
    context_length: int | None = None
    num_skipped: int = 0
    eos_ids: list[int] | None = None
    prompts_sha256: str | None = None
    references_sha256: str | None = None
    weights_sha256: str | None = None
    config_hash: str | None = None
    decoding: Decoding | None = None
    scores: Scores | None = None
    timing: Timing | None = None
    stream: Stream | None = None
    search: Search | None = None
    skipping: SkippedPass | None = None

    def filters_in_words(self) -> list[str]:
        """The filters of the target's law that are on, e.g. ["top-p 0.95"]."""
        values = {name: (text, getattr(self, name)) for name, text in FILTERS.items()}
        off = {field.name: field.default for field in dataclasses.fields(self)}
        return [text.format(value) for name, (text, value) in values.items() if value != off[name]]

    @property
    def variant(self) -> str:
        """The method, and its verifier where that is not the method's own: "rsd_s/k_seq"."""
        return variant(self.method, self.verifier)

    def flat(self) -> dict[str, Any]:
        """The JSON object of the row's line: fields of the header and of the parts, by name.

        `pandas.DataFrame([row.flat() for row in rows])` has a column per field.
        """
        values = {name: getattr(self, name) for name in HEADER}
        for part in PARTS:
            if (measured := getattr(self, part)) is not None:
                values |= vars(measured)
        return {
            name: dict(vars(value)) if dataclasses.is_dataclass(value) else value
            for name, value in values.items()
        }

    def value(self, name: str) -> Any:
        """A field of the header or of a part, by its name; None where the row lacks the part.

        Raises:
          AttributeError: no part has such a field.
        """
        if name in HEADER:
            return getattr(self, name)
        if name not in FIELDS:
            raise AttributeError(f"rows have no field {name!r}")
        found = (getattr(self, part) for part in FIELDS[name])
        return next((getattr(part, name) for part in found if part is not None), None)

    def interval(self, metric: str) -> Interval | None:
        """The interval of a metric; None where it has none."""
        name = f"{metric}_interval"
        return self.value(name) if name in FIELDS else None


HEADER = tuple(field.name for field in dataclasses.fields(Row) if field.name not in PARTS)


def _parts_by_field() -> dict[str, list[str]]:
    parts: dict[str, list[str]] = {}
    for part, kind in PARTS.items():
        for field in dataclasses.fields(kind):
            parts.setdefault(field.name, []).append(part)
    return parts


FIELDS = _parts_by_field()
"""The parts that have a field, by its name; a name in two parts means the same in both."""


def variant(method: str, verifier: str | None) -> str:
    """See `Row.variant`; a method that is none of ours has no verifier."""
    return method if verifier in (None, own_verifier(method)) else f"{method}/{verifier}"


def config_hash(settings: Mapping[str, Any]) -> str:
    """16 hexadecimal digits that depend on the settings and not on their order."""
    text = json.dumps(settings, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
