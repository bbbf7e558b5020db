"""Malformed files of runs: rows, prompts, searches, responses."""

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np

from rsd_jax.core.types import LoadedModel
from rsd_jax.distillation.responses.manifest import begin, read_manifest
from rsd_jax.distillation.responses.shards import Shard, read_shard, write_shard
from rsd_jax.models.llama import LlamaModel
from rsd_jax.records.files import read_rows
from rsd_jax.search import SearchState
from rsd_jax.tasks.jsonl import jsonl_task
from rsd_jax.tasks.prompts import load_prompts, save_prompts
from rsd_jax.testing.tiny_llama import TINY_CONFIG
from tests import ROOT
from tests.malformed.kinds import Malformed
from tests.malformed.mutants import binary_file, json_file, json_lines, value_mutants


def _rows(name: str) -> Malformed:
    def make(folder: pathlib.Path) -> pathlib.Path:
        lines = (ROOT / "docs/results" / name).read_bytes().splitlines(keepends=True)
        path = folder / "results.jsonl"
        path.write_bytes(b"".join(lines[:2]))
        return path

    return Malformed(
        make, lambda folder: read_rows(folder / "results.jsonl"), json_lines(120), _rows_say
    )


def _lines(data: bytes) -> list[Any]:
    """The JSON values of the lines; a last line that is none was cut off."""
    found = []
    for line in data.split(b"\n"):
        if line.strip():
            try:
                found.append(json.loads(line))
            except (ValueError, RecursionError):
                found.append(None)
    return found


def _rows_say(data: bytes, rows: list[Any]) -> None:
    given = _lines(data)
    # A last line without an end may be a fragment, which is left out.
    assert len(rows) in (len(given), len(given) - (not data.endswith(b"\n")))
    for values, row in zip(given, rows, strict=False):
        flat = json.loads(json.dumps(row.flat(), allow_nan=False))
        for key, value in values.items():
            if value is not None and key != "schema_version":
                assert flat[key] in (value, _floats(value)), (key, value, flat[key])


def _floats(value: Any) -> Any:
    """The value with its integers as floats, as fields that are numbers hold them."""
    if isinstance(value, list):
        return [_floats(each) for each in value]
    if isinstance(value, dict):
        return {key: _floats(each) for key, each in value.items()}
    return float(value) if isinstance(value, int) else value


def _own_prompts(folder: pathlib.Path) -> pathlib.Path:
    lines = [
        {"prompt": "def f():", "reference": " return 1", "name": "a", "category": "code"},
        {"input_ids": [1, 2, 3]},
    ]
    path = folder / "own.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def _own_chat(folder: pathlib.Path) -> pathlib.Path:
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    talk.append({"role": "user", "content": "c"})
    path = folder / "own.jsonl"
    path.write_text(json.dumps({"messages": talk}) + "\n" + json.dumps({"prompt": "d"}) + "\n")
    return path


def _prompts_say(data: bytes, prompts: list[Any]) -> None:
    given = _lines(data.removeprefix(b"\xef\xbb\xbf"))
    assert len(given) == len(prompts)
    for values, prompt in zip(given, prompts, strict=True):
        assert prompt.category == values.get("category")
        if "input_ids" in values:
            assert prompt.ids == tuple(values["input_ids"])
            assert all(0 <= each < 2**31 for each in prompt.ids)
        elif "prompt" in values and prompt.messages is None:
            assert prompt.text.count(values["prompt"].strip())


def _plain_prompts(folder: pathlib.Path) -> pathlib.Path:
    save_prompts(load_prompts()[:2], folder / "plain.jsonl")
    return folder / "plain.jsonl"


def _plain_prompts_say(data: bytes, prompts: list[Any]) -> None:
    for values, prompt in zip(_lines(data), prompts, strict=True):
        assert values == {"name": prompt.name, "text": prompt.text, "reference": prompt.reference}
        assert all(isinstance(each, str) for each in values.values())


_DEEP = dataclasses.replace(TINY_CONFIG, num_layers=4)
_TARGET = LoadedModel(LlamaModel(_DEEP), {"a": np.ones((2, 3), np.float32)})


def _search(folder: pathlib.Path) -> pathlib.Path:
    SearchState.new(_TARGET).save(folder / "search.json")
    return folder / "search.json"


def _search_says(data: bytes, state: SearchState) -> None:
    new = SearchState.new(_TARGET)
    assert state.skips.tolist() == new.skips.tolist()
    assert dataclasses.asdict(state.config) == dataclasses.asdict(new.config)


def _manifest(folder: pathlib.Path) -> pathlib.Path:
    begin(folder, {"seed": 0, "target": {"vocab_size": 32}, "tokenizer": "x"}, 1)
    return folder / "manifest.json"


def _manifest_says(data: bytes, manifest: dict[str, Any]) -> None:
    assert manifest["settings"] == {"seed": 0, "target": {"vocab_size": 32}, "tokenizer": "x"}
    assert type(manifest["shards"]) is int
    assert manifest["shards"] >= 0


def _shard(folder: pathlib.Path) -> pathlib.Path:
    one = np.asarray([3], np.int32)
    shard = Shard(
        np.arange(3, dtype=np.uint16), one, one - 1, one, one * 0.5, one > 0, np.asarray(["a"])
    )
    write_shard(folder, 0, shard, "hash")
    return folder / "shard-00000.npz"


def _shard_says(data: bytes, shard: Shard) -> None:
    assert shard.tokens.tolist() == [0, 1, 2]
    assert (shard.length.tolist(), shard.prompt_length.tolist()) == ([3], [2])


def _searches(data: bytes, rng: Any) -> list:
    """Files of searches with other fields and the checksum of these fields."""
    from rsd_jax.search import files

    content = json.loads(data)
    found = []
    for what, fields in value_mutants(content["search"], 160, rng):
        changed = content | {"search": fields, "checksum": files._checksum(fields)}
        found.append((what, json.dumps(changed).encode()))
    return found


def _is_search(state: SearchState) -> None:
    assert state.skips.shape == (4, 2)
    assert isinstance(state.stopped, str | None)
    assert np.isfinite(state.points).all()
    assert np.isfinite(state.scores).all()


RECORD_FILES: dict[str, Malformed] = {
    "rows of an experiment": _rows("experiment1.jsonl"),
    "rows of streams": _rows("swift_search.jsonl"),
    "rows of passes": _rows("skipping.jsonl"),
    "rows of the arena": _rows("arena/arena.jsonl"),
    "prompts of a user": Malformed(
        _own_prompts,
        lambda folder: jsonl_task(path=folder / "own.jsonl").first(9),
        json_lines(120),
        _prompts_say,
    ),
    "conversations of a user": Malformed(
        _own_chat,
        lambda folder: jsonl_task(path=folder / "own.jsonl", template="chat").first(9),
        json_lines(120),
        _prompts_say,
    ),
    "plain prompts": Malformed(
        _plain_prompts,
        lambda folder: load_prompts(folder / "plain.jsonl"),
        json_lines(60),
        _plain_prompts_say,
    ),
    "file of a search": Malformed(
        _search,
        lambda folder: SearchState.load(folder / "search.json", _TARGET),
        json_file(60),
        _search_says,
    ),
    "fields of a search": Malformed(
        _search,
        lambda folder: SearchState.load(folder / "search.json", _TARGET),
        _searches,
        lambda data, state: _is_search(state),
    ),
    "manifest.json": Malformed(_manifest, read_manifest, json_file(80), _manifest_says),
    "shard of responses": Malformed(
        _shard, lambda folder: read_shard(folder, 0, "hash"), binary_file(120), _shard_says
    ),
}
