"""Streams of instances with a search: rows, resumption, phases, bad input."""

import dataclasses
import json
import subprocess
import sys

import pytest

import rsd_jax
from rsd_jax.core.types import Origin
from rsd_jax.engine.request import Sampling
from rsd_jax.evaluation.floors import kept_fraction
from rsd_jax.evaluation.stream.run import run_stream
from rsd_jax.evaluation.stream.session import Session
from rsd_jax.evaluation.stream.settings import StreamSettings
from rsd_jax.models.llama import LlamaModel
from rsd_jax.records.files import read_rows
from rsd_jax.records.hardware import Hardware
from rsd_jax.records.lock import sole_writer
from rsd_jax.reporting.stream.streams import streams_of
from rsd_jax.search import SearchConfig, SearchState
from rsd_jax.search.candidates import propose
from rsd_jax.testing.tiny_llama import TINY_CONFIG, tiny_params
from tests import ROOT, old_files, sweeping, tiny
from tests.compile_meter import compilations

# With random weights hardly a token is accepted.
pytestmark = pytest.mark.filterwarnings("ignore:swift .* cannot pay here")

_COUNTED = (
    "instance",
    "method",
    "tokens",
    "produced",
    "blocks",
    "drafted",
    "matchness",
    "searching",
    "mbsu",
    "kept_fraction",
    "accepted_depths",
)


def _settings(out_dir, **changes) -> StreamSettings:
    values = {
        "pair_name": "tiny",
        "pair": {"shipped": "tiny"},
        "task_name": "number_words",
        "task": {"num_prompts": 4, "max_new_tokens": 16, "temperatures": (0.0,)},
        "method": {"name": "swift", **tiny.METHODS["swift"]},
        "search": {"ratio": 0.5, "context": 4, "max_iterations": 8, "bayes_every": 5},
        "out_dir": str(out_dir),
    }
    return StreamSettings.from_config(values | changes)


def test_rows_have_the_name_of_their_pair(tmp_path):
    """The hash covers the name as before, whether the name is given or not."""
    named = _settings(tmp_path)
    unnamed = _settings(tmp_path, pair_name="")
    assert (named.name, unnamed.name) == ("tiny", "tiny")
    assert named.hash() == unnamed.hash()
    hub = ("owner/Llama-2-13b-hf", "owner/Llama-2-13b-hf@refs/pr/1")
    for target in ("/models/Llama-2-13b-hf", "/models/Llama-2-13b-hf/", *hub):
        own = _settings(tmp_path, pair_name="", pair={"target": target})
        assert own.name == "Llama-2-13b-hf"
        assert own.hash() != named.hash()


def test_new_settings_of_prompts_change_the_hash_only_where_they_are_set(tmp_path):
    plain = _settings(tmp_path)
    pair = {"shipped": "tiny", "chat_template_kwargs": {}, "chat_date": "2024-07-26"}
    assert _settings(tmp_path, pair=pair).hash() == plain.hash()
    changed = _settings(tmp_path, pair=pair | {"chat_date": "2024-07-27"}).hash()
    task = {"num_prompts": 4, "max_new_tokens": 16, "temperatures": (0.0,), "parse_special": True}
    assert len({plain.hash(), changed, _settings(tmp_path, task=task).hash()}) == 3


@pytest.fixture(scope="module")
def target():
    config = dataclasses.replace(TINY_CONFIG, num_layers=4)
    origin = Origin("owner/name@commit", "0" * 64)
    return rsd_jax.LoadedModel(LlamaModel(config), tiny_params(3, config), origin=origin)


@pytest.fixture(scope="module")
def finished(target, tmp_path_factory):
    """An uninterrupted stream: (session, rows, calls of `watch`)."""
    folder = tmp_path_factory.mktemp("stream")
    session = Session(_settings(folder), target, sweeping.Letters())
    seen = []
    rows = session.run(lambda what, row: seen.append((what, row)))
    return session, rows, seen


def _counts(rows):
    return [tuple(row.value(name) for name in _COUNTED) for row in rows]


def test_a_stream_has_two_rows_per_instance_and_one_for_all(finished):
    session, rows, seen = finished
    assert read_rows(session.path) == rows
    assert [(row.method, row.stream.instance) for row in rows] == [
        (name, i) for i in range(4) for name in ("ar", "swift")
    ] + [("swift", None)]
    assert [what for what, _ in seen] == ["decoded"] * 4 + ["timed"] * 4
    (stream,) = streams_of(rows)
    assert len(stream.instances) == 4
    assert all(row.weights_from == {"target": "owner/name@commit"} for row in rows)
    assert all(row.weights_files_sha256 == {"target": "0" * 64} for row in rows)
    own = rows[1:8:2]
    # At T = 0 method and baseline give the same tokens.
    assert [row.decoding.tokens for row in own] == [row.decoding.tokens for row in rows[0:8:2]]
    rates = [
        (row.decoding.token_rate, base.decoding.token_rate)
        for base, row in zip(rows[0::2], own, strict=False)
    ]
    for place, row in enumerate(own):
        assert row.decoding.token_rate_ratio == pytest.approx(rates[place][0] / rates[place][1])
        so_far = list(zip(*rates[: place + 1], strict=True))
        assert row.stream.overall_ratio == pytest.approx(sum(so_far[0]) / sum(so_far[1]))
        assert 0 < row.search.kept_fraction < 1
        assert row.decoding.block_efficiency >= 1
    assert {row.target_budget for row in own} == {session.method.drafter.max_nodes - 1}
    assert {row.search.skip_ratio for row in own} == {0.5}
    assert {row.search for row in rows[0:8:2]} == {None}
    for row in own:
        assert set(row.search.search_times) == {"suggest", "matchness", "read"}
        assert all(
            (value > 0) == (row.search.candidates > 0) for value in row.search.search_times.values()
        )
    matchness = [row.search.matchness for row in own]
    assert matchness == sorted(matchness)
    assert own[0].search.searching
    assert not own[-1].search.searching, "at most eight candidates"
    whole = stream.whole
    assert whole.decoding.produced == sum(row.decoding.produced for row in own)
    spent = sum(row.search.search_times["matchness"] * row.decoding.tokens for row in own)
    assert whole.search.search_times["matchness"] * whole.decoding.tokens == pytest.approx(spent)
    assert set(whole.stream.token_phase_times) == {"optimize", "draft", "verify", "others"}
    assert set(whole.stream.token_phase_deviations) == {*whole.stream.token_phase_times, "total"}
    assert whole.decoding.mbsu == pytest.approx(
        whole.decoding.produced / sum(row.decoding.produced / row.decoding.mbsu for row in own)
    )
    assert stream.stopped_after == 1 + next(
        i for i, row in enumerate(own) if not row.search.searching
    )


def test_a_killed_stream_goes_on_with_its_search(finished, target, tmp_path):
    _, whole, _ = finished
    for stop in (1, 2, 3):  # after instances, and while the phases are timed

        def killed(what, row, left=[stop]):  # noqa: B006
            left[0] -= 1
            if not left[0]:
                raise sweeping.Watcher.Killed

        session = Session(_settings(tmp_path), target, sweeping.Letters())
        with pytest.raises(sweeping.Watcher.Killed):
            session.run(killed)
    last = Session(_settings(tmp_path), target, sweeping.Letters())
    assert len(last.done) == 4
    assert _counts(last.run()) == _counts(whole)
    assert [path.name for path in tmp_path.glob("search-*.json")] == ["search-4.json"]


def test_a_second_run_is_refused(target, tmp_path):
    session = Session(_settings(tmp_path), target, sweeping.Letters())
    with sole_writer(tmp_path), pytest.raises(rsd_jax.ConfigError, match="is writing to"):
        session.run()
    assert not session.path.exists()


def test_a_stream_of_an_earlier_commit_goes_on(finished, target, tmp_path, monkeypatch):
    _, whole, _ = finished
    folder = old_files.copy_of("stream", tmp_path)
    # A stream goes on only on the hardware that it began on.
    known = read_rows(folder / "results.jsonl")[0].hardware
    monkeypatch.setattr(Hardware, "current", lambda: known)
    session = Session(_settings(folder), target, sweeping.Letters())
    assert len(session.done) == 2
    assert _counts(session.run()) == _counts(whole)


def test_a_stream_whose_answers_end_elsewhere_now_is_refused(target, tmp_path, monkeypatch):
    folder = old_files.copy_of("stream", tmp_path)
    known = read_rows(folder / "results.jsonl")[0].hardware
    monkeypatch.setattr(Hardware, "current", lambda: known)
    monkeypatch.setattr(sweeping.Letters, "eos_token_id", 2)
    with pytest.raises(rsd_jax.ConfigError, match=r"whose eos_ids is \[1\], not \[2\]"):
        Session(_settings(folder), target, sweeping.Letters())


def test_a_search_of_an_earlier_commit_is_read(target, tmp_path):
    path = old_files.copy_of("skips.json", tmp_path)
    before = json.loads(path.read_text())
    state = SearchState.load(path, target)
    assert (state.iterations, state.best_score, state.since_adopted) == (3, 0.75, 1)
    state.save(path)
    assert json.loads(path.read_text()) == before


def test_a_found_set_is_used_as_it_is(target, tmp_path):
    """Nothing is searched, even if the search of the set has not begun or not ended."""
    fresh = SearchState.new(target, SearchConfig(ratio=0.5, context=4))
    started = fresh.update(propose(fresh), 0.25)
    for name, found in (("fresh", fresh), ("started", started)):
        path = tmp_path / f"{name}.json"
        found.save(path)
        assert SearchState.load(path, target).stopped is None
        again = _settings(tmp_path / name, use_search=str(path), phases=False)
        rows = Session(again, target, sweeping.Letters()).run()
        own = [row for row in rows if row.method == "swift"]
        assert {row.search.matchness for row in own} == {found.best_score}
        assert {row.search.candidates for row in own} == {0}
        assert {row.search.searching for row in own} == {None}
        (stream,) = streams_of(rows)
        assert stream.stopped_after is None
        kept = kept_fraction(target.model, tuple(found.skips.sum(axis=0).tolist()))
        cost = [row.decoding.blocks + kept * row.decoding.drafted for row in own]
        assert [row.decoding.mbsu for row in own] == pytest.approx(
            [row.decoding.produced / c for row, c in zip(own, cost, strict=True)]
        )


def test_nothing_is_compiled_or_imported_in_a_timed_instance(target):
    """The fifth candidate is the first Bayesian suggestion, whose imports take seconds."""
    script = """
import sys
from tests.evaluation.test_stream_session import first_instances
first_instances()
"""
    run = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr


def first_instances():
    """Compilations and imports of the second instance, in a separate process."""
    config = dataclasses.replace(TINY_CONFIG, num_layers=4)
    model = rsd_jax.LoadedModel(LlamaModel(config), tiny_params(3, config))
    state = SearchState.new(model, SearchConfig(ratio=0.5, context=4, bayes_every=50, max_score=1))
    sampling = Sampling(max_new_tokens=16, temperature=0.0)
    method = tiny.method("swift")
    stream = run_stream(method, model, [[3, 4], [5]] * 2, sampling, state, capacity=64)
    next(stream)
    assert "bayes_opt" in sys.modules
    with compilations() as programs:
        next(stream)
    assert programs == []


def test_bad_input_is_one_clear_error(finished, target, tmp_path):
    session, _, _ = finished

    def begin(model=target, **changes):
        Session(_settings(changes.pop("out_dir", tmp_path), **changes), model, sweeping.Letters())

    task = {"num_prompts": 4, "max_new_tokens": 16, "temperatures": (0.0,)}
    for changes, message in (
        ({"search": {"ratio": 1.0}}, r"ratio"),
        ({"pair": {}}, "pair: give either `shipped`"),
        ({"searches": {}}, "unknown field 'searches'"),
        ({"search": {"ratio": 0.5, "context": 14}}, "max_new_tokens=16 must be above 16"),
        ({"method": {"name": "medusa"}}, "unknown method 'medusa'"),
        ({"method": {"name": "sd", "length": 2}}, "'sd' does not draft with its target"),
        ({"task": task | {"max_new_tokens": 600}}, "all 4 prompts are too long"),
        ({"out_dir": session.folder, "seed": 1}, "holds a stream whose config_hash is"),
    ):
        with pytest.raises(rsd_jax.ConfigError, match=message):
            begin(**changes)
    shallow = rsd_jax.LoadedModel(LlamaModel(TINY_CONFIG), tiny_params(0))
    with pytest.raises(rsd_jax.ConfigError, match="2 layers"):
        begin(shallow)
    path = tmp_path / "broken.json"
    path.write_text("{")
    with pytest.raises(rsd_jax.ConfigError, match="corrupt"):
        begin(use_search=str(path))
