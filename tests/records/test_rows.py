"""The result schema: what is written is read back, and what is malformed is named."""

import dataclasses
import json
import platform

import pytest

from rsd_jax.errors import ConfigError
from rsd_jax.records.files import append_row, known_rows, read_rows, to_json
from rsd_jax.records.hardware import Hardware, current_versions
from rsd_jax.records.rows import SCHEMA_VERSION, BytesRatio, Row, config_hash, validate

_HARDWARE = Hardware(cpu="a cpu", cores=2, backend="cpu", device="cpu", num_devices=1)


def _row(**changes):
    row = Row(
        source="test",
        pair="tiny",
        task="none",
        method="rsd_c",
        tree="2-1",
        draft_length=2,
        temperature=0.3,
        seed=0,
        hardware=_HARDWARE,
        versions={"jax": "0.10.2"},
        tokens=30,
        produced=33,
        blocks=15,
        block_efficiency=2.2,
        block_efficiency_interval=(2.0, 2.4),
        accepted_depths=[3, 6, 6],
        accepted_ranks=[15, 3],
        phase_times={"draft": 0.1},
        bytes_ratio=BytesRatio(r=0.1, r_bytes=0.08),
        mesh={"data": 8},
        prefill_timed=True,
        intervals_over="prompts",
    )
    return dataclasses.replace(row, **changes)


def test_rows_come_back_as_written(tmp_path):
    path = tmp_path / "deeper" / "rows.jsonl"
    rows = [_row(), _row(method="ar", tree="-", draft_length=0, mesh=None, top_k=5)]
    for row in rows:
        append_row(path, row)
    assert read_rows(path) == known_rows(path) == rows
    assert all(
        json.loads(line)["schema_version"] == SCHEMA_VERSION
        for line in path.read_text().splitlines()
    )


def test_integers_are_numbers():
    row = json.loads(to_json(_row())) | {"temperature": 1}
    assert isinstance(validate(row).temperature, float)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"tokens": "30"}, "'tokens' is '30'; expected an integer"),
        ({"tokens": 30.5}, "'tokens' is 30.5; expected an integer"),
        ({"tokens": True}, "'tokens' is True"),
        ({"tokens": -1}, "'tokens' is -1; expected a finite number"),
        ({"mbsu": float("nan")}, "'mbsu' is nan"),
        ({"tree": None}, "'tree' is None; expected a string"),
        ({"prefill_timed": 1}, "'prefill_timed' is 1; expected true or false"),
        ({"accepted_depths": [1, "2"]}, r"'accepted_depths\[1\]' is '2'"),
        ({"accepted_depths": 3}, "'accepted_depths' is 3; expected a list"),
        ({"mbsu_interval": [1.0]}, "'mbsu_interval' is .*; expected a list of 2"),
        ({"mbsu_interval": [2.0, 1.0]}, "'mbsu_interval' is .*; the lower end comes first"),
        ({"bytes_ratio": {"r": 0.1}}, "'bytes_ratio.r_bytes' is missing"),
        ({"hardware": "fast"}, "'hardware' is 'fast'; expected an object"),
        ({"phase_times": {"draft": "x"}}, "'phase_times.draft' is 'x'"),
        ({"status": "good"}, "'status' is 'good'; expected one of"),
        ({"intervals_over": "rows"}, "'intervals_over' is 'rows'"),
        ({"speed": 1.0}, "unknown field 'speed'"),
        ({"schema_version": 99}, "'schema_version' is 99, but rsd_jax .* version 2"),
    ],
)
def test_a_malformed_row_is_named_with_its_line_and_field(tmp_path, change, field):
    path = tmp_path / "rows.jsonl"
    good = json.loads(to_json(_row()))
    path.write_text("\n".join(json.dumps(row) for row in (good, good | change, good)) + "\n")
    with pytest.raises(ConfigError, match=rf"rows.jsonl, line 2: .*{field}"):
        read_rows(path)


def test_a_missing_field_and_a_line_that_is_not_json_are_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    good = json.loads(to_json(_row()))
    del good["method"]
    path.write_text(json.dumps(good) + "\n")
    with pytest.raises(ConfigError, match="line 1: field 'method' is missing"):
        read_rows(path)
    path.write_text("[1]\n")
    with pytest.raises(ConfigError, match="line 1: expected an object, got list"):
        read_rows(path)
    path.write_text("{\n" + to_json(_row()) + "\n")
    with pytest.raises(ConfigError, match="line 1: not JSON"):
        read_rows(path)
    with pytest.raises(ConfigError, match="there is no results file"):
        read_rows(tmp_path / "none.jsonl")
    assert known_rows(tmp_path / "none.jsonl") == []


def test_a_malformed_row_is_not_written(tmp_path):
    path = tmp_path / "rows.jsonl"
    with pytest.raises(ConfigError, match="field 'mbsu' is inf"):
        append_row(path, _row(mbsu=float("inf")))
    assert not path.exists()


def test_a_cut_off_last_line_costs_that_row_only(tmp_path):
    path = tmp_path / "rows.jsonl"
    append_row(path, _row(seed=0))
    whole = path.read_bytes()
    for cut in (1, 40, len(whole) - 2):
        path.write_bytes(whole + whole[:cut])
        with pytest.warns(UserWarning, match="line 2: cut off while it was written; ignored"):
            assert read_rows(path) == [_row(seed=0)]
        with pytest.warns(UserWarning, match="the last line was cut off"):
            append_row(path, _row(seed=1))
        assert read_rows(path) == [_row(seed=0), _row(seed=1)]
    path.write_bytes(whole.rstrip(b"\n"))  # whole, only the line break is missing
    append_row(path, _row(seed=1))
    assert read_rows(path) == [_row(seed=0), _row(seed=1)]


def test_provenance_says_what_ran_and_not_where():
    hardware, versions = Hardware.current(), current_versions()
    assert hardware.backend
    assert hardware.cores >= 1
    assert {"python", "rsd_jax", "jax", "jaxlib"} <= set(versions)
    text = to_json(_row(hardware=hardware, versions=versions))
    assert platform.node() not in text or not platform.node()


def test_the_config_hash_ignores_order():
    assert config_hash({"a": 1, "b": [2]}) == config_hash({"b": [2], "a": 1})
    assert config_hash({"a": 1}) != config_hash({"a": 2})
