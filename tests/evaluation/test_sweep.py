"""Sweeps: what is measured, resumed, refused, and put into rows."""

import dataclasses
import json
import random
import types
import warnings

import pytest

from rsd_jax.core.types import LoadedModel, Origin
from rsd_jax.core.warp import make_warp
from rsd_jax.engine.batching import bucket
from rsd_jax.engine.decoding import required_capacity
from rsd_jax.errors import ConfigError
from rsd_jax.evaluation import timing
from rsd_jax.evaluation.sweep import measure, subjects
from rsd_jax.evaluation.sweep.cells import Cell, all_cells, missing_cells, turns
from rsd_jax.evaluation.sweep.definition import Sweep
from rsd_jax.evaluation.sweep.estimate import TimeEstimate, TimeLeft, in_words
from rsd_jax.evaluation.sweep.listing import listing
from rsd_jax.evaluation.sweep.run import results_path, run_sweep
from rsd_jax.models.llama import LlamaModel
from rsd_jax.records.files import append_row, read_rows
from rsd_jax.records.lock import sole_writer
from rsd_jax.records.rows import own_verifier
from rsd_jax.reporting.panels import panels_of
from rsd_jax.tasks import get_task
from rsd_jax.testing.tiny_llama import TINY_CONFIG, tiny_params
from tests import old_files, sweeping, tiny
from tests.compile_meter import compilations

# Of a cell, what does not depend on the clock.
_COUNTED = (
    "experiment",
    "draft_length",
    "target_budget",
    "num_prompts",
    "num_skipped",
    "tokens",
    "produced",
    "blocks",
    "block_efficiency",
    "block_efficiency_interval",
    "mbsu",
    "accuracy",
    "accuracy_ratio",
    "accepted_depths",
    "accepted_ranks",
    "config_hash",
    "prompts_sha256",
    "weights_sha256",
    "status",
)

# method, tree -> tokens, produced, blocks; at T = 0.7 under seed 0.
_GOLDEN = {
    ("ar", "-"): (18, 18, 18),
    ("spectr", "2x2"): (18, 19, 7),
    ("rsd_c", "2-2"): (18, 19, 9),
    ("rsd_s", "3x2"): (18, 20, 9),
    ("sd", "3"): (18, 23, 9),
}


# As if the cell that failed had been measured.
_FIXED = {"method": "rsd_s", "tree": "40x1", "draft_length": 1, "target_budget": 40}


def _counts(rows):
    counted = {Cell.of(row): tuple(row.value(name) for name in _COUNTED) for row in rows}
    assert len(counted) == len(rows), "a cell was measured twice"
    return counted


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """An uninterrupted sweep: (sweep, rows, watcher)."""
    sweep = sweeping.sweep(tmp_path_factory.mktemp("sweep"))
    watcher = sweeping.Watcher()
    assert run_sweep(sweep, sweeping.load, watcher) == {"ok": 5}
    return sweep, read_rows(results_path(sweep)), watcher


def test_a_golden_run(finished):
    sweep, rows, watcher = finished
    assert [Cell.of(row) for row in rows] == all_cells(sweep)
    assert watcher.rows == rows
    assert {
        (r.method, r.tree): (r.decoding.tokens, r.decoding.produced, r.decoding.blocks)
        for r in rows
    } == _GOLDEN
    for row in rows:
        assert row.decoding.token_rate_ratio is not None
        assert row.decoding.token_rate_ratio_interval is not None
        assert (row.kind, row.verifier) == ("decoding", own_verifier(row.method))
        assert (row.decoding.intervals_over, row.decoding.num_prompts) == ("prompts", 3)
        assert (len(row.decoding.call_tokens), sum(row.decoding.call_tokens)) == (
            3,
            row.decoding.tokens,
        )
        assert sum(row.decoding.call_seconds) == pytest.approx(row.decoding.seconds)
        assert row.batch_size == 1
        assert (row.scores.accuracy_metric, row.scores.accuracy) == ("bleu", 0)
        assert row.scores.accuracy_ratio is None  # over a score of 0
        assert sum(row.decoding.accepted_depths) == row.decoding.blocks
    baseline = rows[0].decoding
    assert (rows[0].method, baseline.token_rate_ratio, baseline.mbsu) == ("ar", 1, 1)


def test_a_killed_sweep_goes_on(finished, tmp_path):
    """A sweep killed at random steps, with a cut last line, gives the same rows, each once."""
    _, whole, _ = finished
    rng = random.Random(1)
    sweep = sweeping.sweep(tmp_path)
    path = results_path(sweep)
    measured, killed, cut = 0, 0, False
    for _ in range(6):
        # Two turns of 12 steps; rows are written after the last of them.
        watcher = sweeping.Watcher(rng.randrange(12), at_row=False)
        if rng.random() < 0.5:
            watcher = sweeping.Watcher(rng.randrange(2), at_row=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the line that was cut off
            try:
                run_sweep(sweep, sweeping.load, watcher)
            except sweeping.Watcher.Killed:
                killed += 1
        measured += len(watcher.rows)
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        if len(lines) > 2 and not cut:  # the last row itself is lost, and measured again
            path.write_bytes(b"".join(lines)[: -rng.randrange(2, len(lines[-1]))])
            measured, cut = measured - 1, True
    assert killed >= 3
    assert cut
    last = sweeping.Watcher()
    run_sweep(sweep, sweeping.load, last)
    assert measured + len(last.rows) == len(whole)
    assert _counts(read_rows(path)) == _counts(whole)
    again = sweeping.Watcher()
    assert run_sweep(sweep, sweeping.load, again) == {}
    assert again.turns == []


def test_a_second_run_is_refused(tmp_path):
    sweep = sweeping.sweep(tmp_path)
    with (
        sole_writer(results_path(sweep).parent),
        pytest.raises(ConfigError, match="is writing to"),
    ):
        run_sweep(sweep, sweeping.load, sweeping.Watcher())
    assert not results_path(sweep).exists()


def test_a_sweep_of_an_earlier_commit_goes_on(finished, tmp_path):
    _, whole, _ = finished
    sweep = sweeping.sweep(old_files.copy_of("sweep", tmp_path))
    watcher = sweeping.Watcher()
    run_sweep(sweep, sweeping.load, watcher)
    assert len(watcher.rows) == 2
    assert _counts(read_rows(results_path(sweep))) == _counts(whole)


def test_a_failure_is_a_row_and_the_others_go_on(tmp_path):
    """More siblings than tokens in the vocabulary, an error only found once the pair is loaded."""
    trees = {"sd": ("3",), "rsd_s": ("40x1", "3x2")}
    sweep = sweeping.sweep(tmp_path, trees=trees, cells_together=4)
    watcher = sweeping.Watcher()
    assert run_sweep(sweep, sweeping.load, watcher) == {"ok": 3, "failed": 1}
    (failed,) = [row for row in read_rows(results_path(sweep)) if row.status == "failed"]
    assert (failed.method, failed.tree, failed.target_budget) == ("rsd_s", "40x1", 40)
    assert "ConfigError: method 'rsd_s' asks for 40 distinct siblings" in (failed.message or "")
    rows = read_rows(results_path(sweep))
    assert missing_cells(sweep, rows) == []
    assert missing_cells(sweep, rows, retry_failed=True) == [Cell.of(failed)]
    assert run_sweep(sweep, sweeping.load, sweeping.Watcher(), retry_failed=True) == {"failed": 1}
    # A failure measured nothing: other settings do not contradict it, and a later row stands.
    rows = [row for row in rows if row.status == "ok"]
    before = [dataclasses.replace(failed, config_hash="0"), *rows]
    assert missing_cells(sweep, before) == [Cell.of(failed)]
    append_row(results_path(sweep), dataclasses.replace(rows[-1], **_FIXED))
    (panel,) = panels_of(read_rows(results_path(sweep)))
    assert panel.unfinished == ()


def test_prompts_that_are_too_long_are_counted(tmp_path):
    task = {"num_prompts": 3, "temperatures": (0.0,)}
    fits = [len(sweeping.Letters()(p.text).input_ids) for p in sweeping.prompts(3)]
    room = 512 - sorted(fits)[1]  # of the tiny pair's positions, for all prompts but the longest
    some = sweeping.sweep(
        tmp_path / "some", tasks={"number_words": task | {"max_new_tokens": room}}, trees={}
    )
    assert run_sweep(some, sweeping.load, sweeping.Watcher()) == {"ok": 1}
    (row,) = read_rows(results_path(some))
    assert (row.decoding.num_prompts, row.num_skipped) == (2, 1)
    none = sweeping.sweep(
        tmp_path / "none", tasks={"number_words": task | {"max_new_tokens": 511}}, trees={}
    )
    assert run_sweep(none, sweeping.load, sweeping.Watcher()) == {"skipped": 1}
    (row,) = read_rows(results_path(none))
    assert (row.status, row.num_skipped, row.decoding) == ("skipped", 3, None)
    assert "all 3 prompts are too long" in (row.message or "")


def test_phases_are_timed_where_asked(tmp_path):
    sweep = sweeping.sweep(tmp_path, trees={"sd": ("3",)}, phase_repeats=1)
    run_sweep(sweep, sweeping.load, sweeping.Watcher())
    for row in read_rows(results_path(sweep)):
        assert set(row.timing.phase_times) >= {"draft", "score", "verify", "commit"}
        assert row.timing.t_ar
        assert row.timing.t_block
        assert row.timing.realised_fraction
        assert row.context_length


def test_phases_are_timed_under_the_warp_of_the_rows(tmp_path, monkeypatch):
    jobs = []

    class Untimed:
        """Replaces the timing of phases, which are slow to compile."""

        def __init__(self, job, blocks):
            jobs.append(job)
            phases = ("prefill", "draft", "score", "verify", "commit", "forwards", "block")
            self.compile, self.measures = 0.0, dict.fromkeys(phases, lambda: 1.0)
            self.peak_bytes = None

    monkeypatch.setattr(timing, "TimedMethod", Untimed)
    task = sweeping.TASK | {"top_k": 5, "top_p": 0.75}
    sweep = sweeping.sweep(tmp_path, tasks={"number_words": task}, trees={}, phase_repeats=1)
    run_sweep(sweep, sweeping.load, sweeping.Watcher())
    (row,), (job,) = read_rows(results_path(sweep)), jobs
    assert (row.temperature, row.top_k, row.top_p, row.timing.t_ar) == (0.7, 5, 0.75, 1)
    assert job.options.target_warp == job.options.draft_warp == make_warp(0.7, 5, 0.75)


def test_accuracy_is_held_against_that_of_the_baseline(tmp_path, monkeypatch):
    """Only the answer in a text is scored, not the text after it."""
    references = [prompt.reference for prompt in sweeping.prompts(3)]
    right = [f"{reference}\nEnglish: and more" for reference in references]
    worse = [references[0], references[1], references[0]]
    written = iter([worse, right])  # by the baseline, then by "sd"
    monkeypatch.setattr(measure, "texts", lambda *_: next(written))
    sweep = sweeping.sweep(tmp_path, trees={"sd": ("3",)})
    run_sweep(sweep, sweeping.load, sweeping.Watcher())
    baseline, drafted = read_rows(results_path(sweep))
    base = get_task("number_words").score(worse, sweeping.prompts(3)).value
    assert 0 < base < 90
    assert (baseline.scores.accuracy, drafted.scores.accuracy) == pytest.approx((base, 100))
    assert (baseline.scores.accuracy_ratio, *baseline.scores.accuracy_ratio_interval) == (1, 1, 1)
    assert drafted.scores.accuracy_ratio == pytest.approx(100 / base)
    assert drafted.scores.accuracy_ratio_interval[1] > drafted.scores.accuracy_ratio


def test_methods_that_draft_with_the_target_need_no_draft(tmp_path):
    """MBSU uses the number of draft passes and the cost of the kept sub-layers."""
    config = dataclasses.replace(TINY_CONFIG, num_layers=4)
    target = LoadedModel(LlamaModel(config), tiny_params(3, config))

    def alone(source):
        return types.SimpleNamespace(target=target, draft=None, tokenizer=sweeping.Letters())

    pairs = {"tiny": {"target": "somewhere"}}
    with pytest.raises(ConfigError, match=r"pairs.tiny: `draft`.* needs one"):
        sweeping.sweep(tmp_path, pairs=pairs)
    sweep = sweeping.sweep(tmp_path, pairs=pairs, trees={"self_sd": ("2",), "swift": ("3",)})
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert run_sweep(sweep, alone, sweeping.Watcher()) == {"ok": 3}
    _, chain, swift = read_rows(results_path(sweep))
    # A run that is far below the break-even gets a warning, and no other run does.
    shown = "\n".join(str(warning.message) for warning in seen)
    for row in (chain, swift):
        told = f"{row.method} {row.tree} cannot pay here: it produced {row.decoding.mbsu:.2f}"
        assert (told in shown) == (row.decoding.mbsu < 0.8)
    assert chain.decoding.mbsu < 0.8  # random weights
    assert [(row.method, row.tree) for row in (chain, swift)] == [("self_sd", "2"), ("swift", "3")]
    for row in (chain, swift):
        r = row.decoding.bytes_ratio.r
        assert 0 < r < 1
        assert row.decoding.mbsu == pytest.approx(
            row.decoding.produced / (row.decoding.blocks + r * row.decoding.drafted)
        )
    assert chain.decoding.drafted == 2 * chain.decoding.blocks
    assert swift.decoding.drafted <= 3 * swift.decoding.blocks


def test_rows_say_where_weights_without_a_path_came_from(tmp_path):
    """Rows of failed cells too."""

    def load(source):
        pair = sweeping.load(source)
        for name, model in (("target", pair.target), ("draft", pair.draft)):
            origin = Origin(f"owner/{name}@commit", name[0] * 64)
            setattr(pair, name, dataclasses.replace(model, origin=origin))
        return pair

    sweep = sweeping.sweep(tmp_path, trees={"sd": ("3",), "rsd_s": ("40x1",)})
    assert run_sweep(sweep, load, sweeping.Watcher()) == {"ok": 2, "failed": 1}
    for row in read_rows(results_path(sweep)):
        assert row.weights_from == {
            "target": "owner/target@commit",
            "draft": "owner/draft@commit",
        }
        assert row.weights_files_sha256 == {"target": "t" * 64, "draft": "d" * 64}


def test_later_turns_are_prompts_where_asked(tmp_path):
    """Earlier answers are the target's greedy answers, so prompts are equal for all methods."""
    path = tmp_path / "question.jsonl"
    turns = (["a b", "and c"], ["d"], ["e f", "g", "h " * 260])
    lines = [
        {"question_id": i, "category": "writing", "turns": listed} for i, listed in enumerate(turns)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    chat = {"tiny": {"shipped": "tiny", "template": "chat"}}
    task = sweeping.TASK | {"task": "spec_bench", "path": str(path)}
    seen = []
    for follow_ups in (False, True, True):
        tasks = {"talk": task | {"follow_ups": follow_ups}}
        out_dir = tmp_path / str(len(seen))
        sweep = sweeping.sweep(out_dir, pairs=chat, tasks=tasks, trees={})
        run_sweep(sweep, sweeping.load, sweeping.Watcher())
        (row,) = read_rows(results_path(sweep))
        assert row.categories.category_prompts == {"writing": row.decoding.num_prompts}
        assert row.categories.category_blocks == {"writing": row.decoding.blocks}
        seen.append(
            (row.decoding.num_prompts, row.num_skipped, row.prompts_sha256, row.config_hash)
        )
    assert seen[0][:2] == (3, 0)
    assert seen[1][:2] == (5, 1)
    assert seen[1] == seen[2]
    assert seen[0][3] != seen[1][3]


def test_answers_that_are_all_empty_get_one_warning(tmp_path, monkeypatch):
    """Every token of the vocabulary ends an answer; three cells in two turns."""
    monkeypatch.setattr(sweeping.Letters, "eos_token_id", 1)
    monkeypatch.setattr(subjects, "ends_of", lambda *_: tuple(range(32)))
    pairs = {"tiny": {"shipped": "tiny", "template": "chat"}}
    path = tmp_path / "own.jsonl"
    path.write_text('{"prompt": "a b"}\n{"prompt": "c"}\n')
    task = {"task": "jsonl", "path": str(path)} | sweeping.TASK | {"num_prompts": 2}
    sweep = sweeping.sweep(
        tmp_path,
        pairs=pairs,
        tasks={"own": task},
        trees={"sd": ("3",), "rsd_c": ("2-2",)},
        cells_together=1,
    )
    with pytest.warns(UserWarning, match="nothing but an end-of-sequence") as seen:
        assert run_sweep(sweep, sweeping.load, sweeping.Watcher()) == {"ok": 3}
    (warning,) = seen
    assert "task 'own'" in str(warning.message)
    assert "template='chat'" in str(warning.message)
    assert "{% for message in messages %}" in str(warning.message)


def test_a_task_may_have_several_categories(tmp_path):
    path = tmp_path / "question.jsonl"
    lines = [
        {"question_id": i, "category": name, "turns": ["a"]}
        for i, name in enumerate(("qa", "rag", "writing", "qa"))
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    task = sweeping.TASK | {"task": "spec_bench", "path": str(path)}
    hashes = set()
    for category, count in (("qa", 2), (("qa", "rag"), 3), (["qa", "rag"], 3), (None, 4)):
        tasks = {"questions": task | {"category": category}}
        sweep = sweeping.sweep(tmp_path, tasks=tasks)
        assert len(sweep.task("tiny", "questions").test_prompts(None)) == count
        hashes.add(sweep.hash_of("tiny", "questions"))
    assert len(hashes) == 3
    with pytest.raises(ConfigError, match=r"category\[1\]' is 3; expected a string"):
        sweeping.sweep(tmp_path, tasks={"questions": task | {"category": ("qa", 3)}})


def test_new_settings_of_prompts_change_the_hash_only_where_they_are_set(tmp_path):
    def hashed(pair, task):
        pairs = {"tiny": {"shipped": "tiny"} | pair}
        sweep = sweeping.sweep(tmp_path, pairs=pairs, tasks={"number_words": sweeping.TASK | task})
        return sweep.hash_of("tiny", "number_words")

    plain = hashed({}, {})
    unset = {"chat_template_kwargs": {}, "chat_date": "2024-07-26"}
    assert hashed(unset, {"parse_special": False}) == plain
    changed = [
        hashed({"chat_template_kwargs": {"enable_thinking": False}}, {}),
        hashed({"chat_date": "2024-07-27"}, {}),
        hashed({}, {"parse_special": True}),
    ]
    assert len({plain, *changed}) == 4
    with pytest.raises(ConfigError, match=r"pairs\.tiny: chat_date='26 Jul' must be a date"):
        hashed({"chat_date": "26 Jul"}, {})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "unknown field 'seed'"),
        (
            {"trees": {"medusa": ("3",)}},
            r"trees: unknown method 'medusa'; known: \['beam', 'dynamic', 'dyspec'",
        ),
        ({"trees": {"rsd_c": ("2x2",)}}, "tree '2x2' of method 'rsd_c' is not .* like '2-2-1'"),
        ({"trees": {"rsd_s": ("4",)}}, "tree '4' of method 'rsd_s' is not understood"),
        ({"trees": {"sd": ("3", "3")}}, "trees: sd 3 is there twice"),
        ({"trees": {"sd": ("0",)}}, "length=0 must be an integer of at least 1"),
        ({"tasks": {"poems": sweeping.TASK}}, "unknown task 'poems'; known tasks"),
        ({"tasks": {"number_words": sweeping.TASK | {"top_p": 0.0}}}, "top_p=0.0"),
        ({"tasks": {"number_words": sweeping.TASK | {"num_prompts": 0}}}, "num_prompts=0"),
        (
            {"tasks": {"number_words": sweeping.TASK | {"temperatures": ()}}},
            "temperatures is empty",
        ),
        ({"pairs": {"mine": {}}}, "pairs.mine: give either `shipped`"),
        ({"pairs": {"mine": {"shipped": "a", "adapter": "b"}}}, "mine: adapter='b' does not go wi"),
        ({"pairs": {"mine": {"shipped": "a", "tokenizer": "b"}}}, "mine: tokenizer='b' does not"),
        ({"pairs": {"mine": {"target": "a", "source": "hub"}}}, "mine: source='hub' does not go"),
        (
            {"pairs": {"mine": {"target": "a", "share_tokens": True}}},
            "mine: share_tokens=True needs",
        ),
        ({"pairs": {"a": {"shipped": "smollm2"}}}, r"pairs\.a: the pair 'smollm2' needs a source"),
        (
            {"pairs": {"a": {"target": "b"}}},
            r"pairs\.a: `draft`, the directory of the draft, is mi",
        ),
        ({"seeds": ()}, "seeds is empty"),
        ({"seeds": (0, 0)}, r"seeds=\[0, 0\] holds a value twice"),
        ({"seeds": (2**32,)}, r"seeds=\[4294967296\] must be below"),
        ({"tasks": {"number_words": sweeping.TASK | {"temperatures": (1, 1.0)}}}, "a value twice"),
        ({"tasks": {"number_words": sweeping.TASK | {"follow_ups": True}}}, "no later turns"),
        ({"verifiers": {"swift": ("k_seq",)}}, "verifiers: method 'swift' has no trees"),
        ({"verifiers": {"sd": ("greedy",)}}, "unknown verifier 'greedy'"),
        ({"verifiers": {"rsd_s": ("k_seq",)}}, "KSeq is lossless only for"),
        ({"verifiers": {"sd": ("k_seq", "k_seq")}}, "verifiers.sd=.* holds a value twice"),
        ({"mesh": (2,)}, r"mesh=\[2\] must be empty or"),
        ({"cells_together": 0}, "cells_together=0"),
    ],
)
def test_what_cannot_be_measured_is_refused_at_once(tmp_path, changes, message):
    def run():
        run_sweep(sweeping.sweep(tmp_path, **changes), None, sweeping.Watcher())

    with pytest.raises(ConfigError, match=message):
        run()
    assert list(tmp_path.iterdir()) == []


def test_other_settings_prompts_or_weights_are_refused(finished, tmp_path):
    _, rows, _ = finished
    path = tmp_path / "results.jsonl"
    append_row(path, rows[0])

    def again(**changes):
        run_sweep(sweeping.sweep(tmp_path, **changes), sweeping.load, sweeping.Watcher())

    task = {"number_words": sweeping.TASK | {"max_new_tokens": 7}}
    with pytest.raises(
        ConfigError, match=r"\(max_new_tokens 6 then, 7 now\); set --config.out_dir"
    ):
        again(tasks=task)
    for name in ("prompts", "references", "weights"):
        path.unlink()
        append_row(path, dataclasses.replace(rows[0], **{f"{name}_sha256": "0"}))
        with pytest.raises(ConfigError, match=f"measured with other {name} than"):
            again()
    path.unlink()
    append_row(path, dataclasses.replace(rows[0], dtype="bfloat16"))
    with pytest.raises(ConfigError, match="measured with other floating types than"):
        again()
    # A new tree, seed or temperature is no other setting.
    path.unlink()
    append_row(path, rows[0])
    more = sweeping.sweep(tmp_path, trees={"sd": ("3", "4")}, seeds=(0, 1))
    assert len(missing_cells(more, read_rows(path))) == 5
    path.write_text(path.read_text().replace('"schema_version": 3', '"schema_version": 1'))
    with pytest.raises(ConfigError, match=r"results.jsonl, line 1: field 'schema_version' is 1"):
        again()


def test_methods_go_through_all_tasks_before_the_next_do(tmp_path):
    tasks = {"number_words": sweeping.TASK, "completion": sweeping.TASK}
    sweep = sweeping.sweep(tmp_path, tasks=tasks)
    cells = all_cells(sweep)
    cut = turns(sweep, cells)
    assert [(turn.part, turn.task) for turn in cut] == [
        (0, "number_words"),
        (0, "completion"),
        (1, "number_words"),
        (1, "completion"),
    ]
    assert sorted(cell for turn in cut for cell in turn.cells) == sorted(cells)
    assert cut[0].methods == cut[1].methods
    # What goes on keeps to the same parts; "ar" is written with the first of its task.
    left = turns(sweep, [cells[-1], cells[0]])
    assert [(turn.part, turn.task, len(turn.cells)) for turn in left] == [
        (0, "number_words", 1),
        (1, "completion", 1),
    ]
    assert len(missing_cells(sweep, [], tasks=["completion"])) == 5
    with pytest.raises(ConfigError, match=r"tasks=\['poems'\] are not in the sweep"):
        missing_cells(sweep, [], tasks=["poems"])


def test_a_task_of_longer_prompts_compiles_nothing(tmp_path):
    """All tasks of a sweep have the cache capacity of the longest task."""
    tasks, sizes = {}, set()
    for name, count in (("short", 1), ("long", 90)):
        path = tmp_path / f"{name}.jsonl"
        question = {"question_id": 0, "category": "writing", "turns": ["a b " * count]}
        path.write_text(json.dumps(question))
        own = {"task": "spec_bench", "path": str(path), "num_prompts": 1}
        tasks[name] = sweeping.TASK | own
        (prompt,) = get_task("spec_bench", path=path).test_prompts(1)
        length = len(sweeping.Letters()(prompt.text).input_ids)
        sizes.add(bucket(required_capacity(tiny.method("ar").drafter, length, 6)))
    assert len(sizes) == 2
    # A batch size that no other test has: its programs are not there yet.
    sweep = sweeping.sweep(tmp_path, tasks=tasks, trees={}, batch_size=5)
    for task, compiles in (("short", True), ("long", False)):
        with compilations() as programs:
            written = run_sweep(sweep, sweeping.load, sweeping.Watcher(), tasks=[task])
        assert written == {"ok": 1}
        assert bool(programs) == compiles, (task, programs)


def test_turns_and_time(finished):
    sweep, rows, watcher = finished
    cut = turns(sweep, all_cells(sweep))
    assert [len(turn.cells) for turn in cut] == [3, 2]
    assert all(turn.methods[0] == ("ar", "-", "recursive_rejection") for turn in cut)
    assert [steps for _, steps, _ in watcher.turns] == [12, 12]
    # Three prompts of 6 tokens at 3 tokens a second, 2 s of compiling; 6 cells, two of them "ar".
    guess = TimeEstimate(sweep)
    assert guess.turns(cut) == pytest.approx(48)
    assert "5 cells, 0 done, 5 to measure: about 48 s" in listing(sweep, all_cells(sweep), guess)
    known = TimeEstimate(sweep, rows[:1])
    seconds = rows[0].decoding.seconds * (1 + 2 / 3) + rows[0].decoding.compile_time
    assert known.turns(cut) == pytest.approx(6 * seconds)
    assert [in_words(s) for s in (59.4, 60, 3599, 12000)] == [
        "59 s",
        "1 min",
        "1 h 0 min",
        "3 h 20 min",
    ]


def test_the_time_left_is_that_of_the_cells_that_are_left(finished, tmp_path):
    """A turn that takes longer than expected takes nothing from the turns after it."""
    _, rows, _ = finished
    tasks = {"number_words": sweeping.TASK, "completion": sweeping.TASK | {"max_new_tokens": 12}}
    sweep = sweeping.sweep(tmp_path, tasks=tasks)
    ahead = turns(sweep, all_cells(sweep))
    assert [turn.task for turn in ahead] == ["number_words", "completion"] * 2
    estimate = TimeEstimate(sweep)
    left = TimeLeft(estimate, ahead)
    assert left.seconds() == pytest.approx(6 * (2 + 18 / 3) + 6 * (2 + 36 / 3))
    left.turn(ahead[0], 4)
    halves = left.seconds()
    left.step()
    left.step()
    assert halves - left.seconds() == pytest.approx(estimate.turns(ahead[:1]) / 2)
    for _ in range(3):  # more steps than were announced
        left.step()
    estimate.add(rows[0])
    seconds = rows[0].decoding.seconds * (1 + 2 / 3) + rows[0].decoding.compile_time
    # The other task has twice the tokens, and no rows yet.
    assert left.seconds() == pytest.approx(3 * seconds + 6 * 2 * seconds)
    estimate.add(dataclasses.replace(rows[0], task="completion"))
    assert left.seconds() == pytest.approx(3 * seconds + 6 * seconds)


def test_another_verifier_is_a_cell_of_its_own(finished, tmp_path):
    """The verifier is not in the settings' hash, so that the cell can be added to earlier rows."""
    before, rows, _ = finished
    verifiers = {"sd": ("recursive_rejection", "k_seq")}
    sweep = sweeping.sweep(tmp_path, trees={"sd": ("3",)}, verifiers=verifiers)
    assert sweep.hash_of("tiny", "number_words") == before.hash_of("tiny", "number_words")
    for row in rows:
        append_row(results_path(sweep), row)
    (missing,) = missing_cells(sweep, rows)
    assert missing.method == ("sd", "3", "k_seq")
    assert "sd/k_seq 3" in listing(sweep, [missing], TimeEstimate(sweep, rows))
    assert run_sweep(sweep, sweeping.load, sweeping.Watcher()) == {"ok": 1}
    row = read_rows(results_path(sweep))[-1]
    assert (row.method, row.verifier, row.variant) == ("sd", "k_seq", "sd/k_seq")
    assert missing_cells(sweep, [*rows, row]) == []
    (panel,) = panels_of([*rows, row])
    assert [one.variant for one in panel.structures if one.tree == "3"] == ["sd", "sd/k_seq"]


def test_batches_and_a_draft_of_another_temperature(finished, tmp_path):
    """Counts are resampled by prompt for any batch size; one batch gives no interval of rates."""
    _, alone, _ = finished
    trees = {"sd": ("3",)}
    for size, over in ((2, True), (3, False)):
        sweep = sweeping.sweep(tmp_path / str(size), trees=trees, batch_size=size)
        run_sweep(sweep, sweeping.load, sweeping.Watcher())
        for row in read_rows(results_path(sweep)):
            (same,) = [one for one in alone if (one.method, one.tree) == (row.method, row.tree)]
            part, known = row.decoding, same.decoding
            assert (part.tokens, part.blocks) == (known.tokens, known.blocks)
            assert part.block_efficiency_interval == known.block_efficiency_interval
            assert (part.intervals_over, row.batch_size) == ("batches", size)
            assert (part.token_rate_interval is not None) == over
            assert (part.token_rate_ratio_interval is not None) == over
    sizes = {"batch_size": 2, "batches_per_call": 4}
    sweep = sweeping.sweep(tmp_path / "refilled", trees=trees, **sizes)
    run_sweep(sweep, sweeping.load, sweeping.Watcher())
    for row in read_rows(results_path(sweep)):
        (same,) = [one for one in alone if (one.method, one.tree) == (row.method, row.tree)]
        assert (row.batch_size, row.batches_per_call) == (2, 4)
        assert (row.decoding.tokens, row.decoding.blocks) == (
            same.decoding.tokens,
            same.decoding.blocks,
        )
        assert row.decoding.token_rate_interval is None  # one call
    with pytest.raises(ConfigError, match="batches_per_call 4 then, 1 now"):
        run_sweep(
            sweeping.sweep(tmp_path / "refilled", trees=trees, batch_size=2),
            sweeping.load,
            sweeping.Watcher(),
        )
    # Prompts that are decoded one by one have a call each, and the settings' earlier hash.
    single = sweeping.sweep(tmp_path / "one", trees=trees, batches_per_call=4)
    plain = sweeping.sweep(tmp_path / "one", trees=trees)
    assert single.batches_in_call == 1
    (pair,), (task,) = single.pairs, single.tasks
    assert single.hash_of(pair, task) == plain.hash_of(pair, task)
    sweep = sweeping.sweep(tmp_path / "warm", trees=trees, draft_temperature=1.5)
    run_sweep(sweep, sweeping.load, sweeping.Watcher())
    baseline, drafted = read_rows(results_path(sweep))
    assert (baseline.draft_temperature, drafted.draft_temperature) == (None, 1.5)
    assert drafted.config_hash != alone[-1].config_hash
    assert missing_cells(sweep, [baseline, drafted]) == []


def test_a_config_dict_is_read_like_a_mapping(tmp_path):
    from ml_collections import ConfigDict

    values = sweeping.config(tmp_path)
    assert Sweep.from_config(ConfigDict(values)) == Sweep.from_config(values)
