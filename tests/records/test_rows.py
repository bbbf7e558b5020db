"""The result schema: written rows are read back, and errors name malformed fields."""

import dataclasses
import json
import platform

import numpy as np
import pytest

from rsd_jax.engine.methods import METHODS, method_of_tree
from rsd_jax.errors import ConfigError
from rsd_jax.records.decoding import BytesRatio
from rsd_jax.records.expected import Expected
from rsd_jax.records.files import append_row, known_rows, read_rows, to_json
from rsd_jax.records.hardware import Hardware, current_versions
from rsd_jax.records.optimum import Optimum
from rsd_jax.records.parts import Timing
from rsd_jax.records.rows import FIELDS, HEADER, SCHEMA_VERSION, config_hash, own_verifier
from rsd_jax.records.validation import from_schema_2, validate
from tests import synthetic_rows

_HARDWARE = Hardware(cpu="a cpu", cores=2, backend="cpu", device="cpu", num_devices=1)


_FIELDS = dict(
    source="test",
    kind="decoding",
    pair="tiny",
    task="none",
    method="rsd_c",
    verifier="recursive_rejection",
    tree="2-1",
    draft_length=2,
    temperature=0.3,
    seed=0,
    hardware=_HARDWARE,
    versions={"jax": "0.10.2"},
    mesh={"data": 8},
    num_prompts=3,
    tokens=30,
    seconds=1.5,
    prefill_timed=True,
    token_rate=20.0,
    produced=33,
    blocks=15,
    block_efficiency=2.2,
    block_efficiency_interval=(2.0, 2.4),
    mbsu=2.0,
    accepted_depths=[3, 6, 6],
    accepted_ranks=[15, 3],
    bytes_ratio={"r": 0.1, "r_bytes": 0.08},
    intervals_over="prompts",
    call_tokens=[12, 8, 10],
    call_seconds=[0.5, 0.6, 0.4],
)
_TIMING = dict(phase_times={"draft": 0.1}, t_ar=0.1, t_block=0.2, realised_fraction=0.9)
_GAINS = {"recursive_rejection": {"recursive_rejection": 1.0, "coupling": 1.1}}
_EXPECTED = dict(
    expected_blocks=15,
    expected_tokens={"recursive_rejection": 2.2, "coupling": 2.42},
    gains=_GAINS,
    gains_intervals={
        "recursive_rejection": {"recursive_rejection": (1.0, 1.0), "coupling": (1.05, 1.2)}
    },
)
_OPTIMUM = dict(
    optimum_blocks=15,
    optimum_siblings=2,
    optimum=0.9,
    root_acceptance={"recursive_rejection": 0.7, "coupling": 0.8},
    distance_left={"recursive_rejection": 1.0, "coupling": 0.5},
    distance_left_intervals={"recursive_rejection": (1.0, 1.0), "coupling": (0.4, 0.6)},
)
_STREAM = dict(kind="stream", experiment="stream", overall_ratio=1.5, instance=None)
_SEARCH = dict(matchness=0.9, searching=False, kept_fraction=0.5)


def _row(**changes):
    return synthetic_rows.make(**_FIELDS | changes)


def test_rows_come_back_as_written(tmp_path):
    path = tmp_path / "deeper" / "rows.jsonl"
    rows = [
        _row(**_TIMING),
        _row(**_EXPECTED),
        _row(**_EXPECTED, **_OPTIMUM),
        _row(method="ar", tree="-", draft_length=0, mesh=None, top_k=5),
        _row(accuracy=31.0, accuracy_metric="bleu"),
        _row(**_STREAM, token_phase_times={"draft": 0.01}),
        _row(**_STREAM | {"instance": 3}, **_SEARCH),
        synthetic_rows.failed(_row(), "out of memory"),
    ]
    for row in rows:
        append_row(path, row)
    assert read_rows(path) == known_rows(path) == rows
    assert all(
        json.loads(line)["schema_version"] == SCHEMA_VERSION
        for line in path.read_text().splitlines()
    )


def test_a_row_has_the_parts_of_what_was_measured():
    row = _row(**_TIMING)
    assert row.timing == Timing(**_TIMING)
    assert (row.scores, row.stream, row.search, row.skipping) == (None,) * 4
    assert row.decoding.bytes_ratio == BytesRatio(r=0.1, r_bytes=0.08)
    assert row.value("t_ar") == 0.1
    assert row.value("seed") == 0
    assert row.value("matchness") is None
    with pytest.raises(AttributeError, match="no field 'speed'"):
        row.value("speed")
    flat = row.flat()
    assert (flat["token_rate"], flat["t_block"], flat["hardware"]["cores"]) == (20.0, 0.2, 2)
    assert "matchness" not in flat
    assert "decoding" not in flat


def test_expected_tokens_name_the_same_verifiers_everywhere():
    for changes, message in (
        ({"expected_tokens": {"coupling": 2.0}}, "intervals or gains have"),
        ({"expected_tokens_intervals": {"coupling": (2.0, 2.1)}}, "intervals or gains have"),
        (
            {
                "expected_tokens_intervals": {
                    "coupling": (2.0, 2.1),
                    "recursive_rejection": (2.1, 2.0),
                }
            },
            "the interval of recursive_rejection",
        ),
    ):
        with pytest.raises(ConfigError, match=message):
            _row(**_EXPECTED | changes)


def test_what_is_left_of_the_distance_to_the_optimum():
    blocks, optimum = np.asarray([10, 20]), np.asarray([8.0, 16.0])
    acceptance = {
        "recursive_rejection": np.asarray([4.0, 8.0]),
        "coupling": np.asarray([7.0, 14.0]),
        "match": np.asarray([2.0, 4.0]),
        "block": np.asarray([8.0, 16.3]),
        "traversal": np.asarray([np.nan, 1.0]),
    }
    part = Optimum.of(acceptance, optimum, blocks, siblings=3)
    assert (part.optimum_blocks, part.optimum_siblings, part.optimum) == (30, 3, 0.8)
    assert part.root_acceptance["coupling"] == pytest.approx(0.7)
    assert set(part.root_acceptance) == set(acceptance) - {"traversal"}
    left = {"recursive_rejection": 1.0, "coupling": 0.25, "match": 1.5, "block": 0.0}
    assert part.distance_left == pytest.approx(left), "what exceeds the optimum by chance is at it"
    assert part.distance_left_intervals["match"] == pytest.approx((1.5, 1.5))
    alone = Optimum.of(
        {k: v[:1] for k, v in acceptance.items()}, optimum[:1], blocks[:1], siblings=3
    )
    assert alone.distance_left["coupling"] == 0.25
    assert alone.distance_left_intervals is None
    equal = Optimum.of({"recursive_rejection": optimum}, optimum, blocks, siblings=1)
    assert equal.distance_left is None


def test_gains_are_over_recursive_rejection_and_the_methods_own_verifier():
    blocks = np.asarray([10, 20, 10])
    sums = {
        "recursive_rejection": np.asarray([20.0, 50.0, 30.0]),
        "k_seq": np.asarray([22.0, 55.0, 33.0]),
    }
    part = Expected.of(sums, blocks, own="k_seq")
    assert part.expected_blocks == 40
    assert part.expected_tokens == {"recursive_rejection": 2.5, "k_seq": 2.75}
    assert list(part.gains) == ["recursive_rejection", "k_seq"]
    low, high = part.gains_intervals["recursive_rejection"]["k_seq"]
    assert low == pytest.approx(1.1), "the gain is the same on every prompt, so pairing is exact"
    assert high == pytest.approx(1.1)
    low, high = part.expected_tokens_intervals["k_seq"]
    assert low < 2.75 < high
    alone = Expected.of({k: v[:1] for k, v in sums.items()}, blocks[:1], "recursive_rejection")
    assert (alone.gains_intervals, list(alone.gains)) == (None, ["recursive_rejection"])


def test_every_method_has_its_own_verifier_in_the_table():
    """Rows of version 2 have no verifier; figures name only verifiers that are not the default."""
    trees = {"rsd_c": "2-1", "rsd_s": "2x2", "spectr": "2x2", "sd": "2", "swift": "2", "ar": "-"}
    trees |= {"static": "2-1.0", "lookup": "2", "dynamic": "2@0.5", "dyspec": "2x2@0.1"}
    trees |= {"beam": "2x2", "mixed_beam": "2x2"}
    for name in METHODS:
        method = method_of_tree(name, trees[name.removeprefix("self_")])
        assert method.verifier_name == own_verifier(name)
    assert _row().variant == "rsd_c"
    assert _row(verifier="match").variant == "rsd_c/match"
    assert _row(method="hf_generate", verifier=None).variant == "hf_generate"


def _as_schema_2(row):
    """The row in version 2: every field of every kind, null if not measured."""
    values = dict.fromkeys(FIELDS) | row.flat() | {"schema_version": 2}
    del values["kind"], values["verifier"]
    renamed = {name: values.pop(f"token_{name}") for name in ("phase_times", "phase_deviations")}
    return values | {"phase_deviations": None} | {k: v for k, v in renamed.items() if v is not None}


def test_rows_of_schema_2_are_read_beside_those_of_3(tmp_path):
    skipping = dict(method="target", verifier=None, kind="skipping", experiment="skipping")
    header = {name: value for name, value in _FIELDS.items() if name in HEADER} | skipping
    rows = [
        _row(**_TIMING),
        _row(method="spectr", verifier="k_seq", tree="2x2"),
        _row(method="hf_generate", verifier=None),
        _row(**_STREAM, **_SEARCH, token_phase_times={"draft": 0.01}),
        synthetic_rows.make(**header, kept_fraction=0.5, t_draft=0.1, t_draft_ratio=0.6),
        synthetic_rows.failed(_row(), "out of memory"),
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(_plain(_as_schema_2(row))) + "\n" for row in rows))
    append_row(path, rows[0])
    assert read_rows(path) == [*rows, rows[0]]
    with pytest.raises(ConfigError, match="unknown field 'kind'; schema version 2"):
        from_schema_2(rows[0].flat())
    for change, field in (
        ({"speed": None}, "unknown field 'speed'"),
        ({"tokens": None}, "field 'tokens' is missing"),
        ({"tokens": "30"}, "'tokens' is '30'"),
        ({"t_draft": 1.0}, "'t_draft' is of rows of kind skipping"),
        ({"method": ["sd"]}, r"'method' is \['sd'\]"),
    ):
        with pytest.raises(ConfigError, match=field):
            validate(from_schema_2(_as_schema_2(rows[0]) | change))


def _plain(values):
    return {
        name: dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value
        for name, value in values.items()
    }


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
        ({"phase_times": {"draft": "x"}}, "'t_ar' is missing"),
        (_TIMING | {"phase_times": {"draft": "x"}}, "'phase_times.draft' is 'x'"),
        ({"matchness": 0.5}, "'matchness' is of rows of kind stream; this row is of kind 'decod"),
        ({"kind": "stream"}, "'overall_ratio' is missing"),
        ({"kind": "skipping"}, "'num_prompts' is of rows of kind decoding or stream"),
        ({"kind": "speed"}, "'kind' is 'speed'; expected one of"),
        ({"decoding": {}}, "unknown field 'decoding'"),
        ({"status": "good"}, "'status' is 'good'; expected one of"),
        ({"intervals_over": "rows"}, "'intervals_over' is 'rows'"),
        ({"speed": 1.0}, "unknown field 'speed'"),
        ({"schema_version": 99}, "'schema_version' is 99, .* version 3 and reads 2 and 3"),
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
    with pytest.raises(ConfigError, match="field 'top_p' is inf"):
        append_row(path, dataclasses.replace(_row(), top_p=float("inf")))
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
