"""`rsd calibrate`, and decoding with what it found."""

import dataclasses

import pytest

from rsd_jax.cli.commands import evaluate
from rsd_jax.errors import ConfigError
from rsd_jax.evaluation.sweep.settings import PairSource
from rsd_jax.planning import Calibration, Conditions, Expected, load_calibration
from rsd_jax.planning.calibration import identity
from rsd_jax.records.files import append_row
from tests import sweeping, synthetic_rows, tiny
from tests.cli.speaking import rsd, tiny_models

__all__ = ["tiny_models"]

pytestmark = pytest.mark.usefixtures("tiny_models")


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "two men"}\n{"prompt": "a man"}\n')
    return path


def test_a_calibration_and_its_method(prompts, tmp_path, capsys):
    out = tmp_path / "new" / "calibration.json"
    given = ("--prompts", prompts, "--num_prompts", 2, "--max_new_tokens", 8, "--repeats", 1)
    methods = ("--methods", "sd:2", "rsd_s:3x2:coupling", "ar:-", "sd:2")
    code, said, _ = rsd(capsys, "calibrate", *given, *methods, "--temperatures", 0, "--out", out)
    assert code == 0
    calibration = load_calibration(out)
    named = [(each.method, each.tree, each.verifier) for each in calibration.expected]
    assert named[1:] == [("sd", "2", "recursive_rejection"), ("rsd_s", "3x2", "coupling")]
    assert named[0][:2] == ("ar", "-")
    rows = [line.split() for line in said.splitlines() if line.startswith(("ar ", "sd ", "rsd_s"))]
    assert [row[0] for row in rows] == [each.method for each in calibration.at(0.0)]
    assert str(out) in said

    rows = tmp_path / "rows.jsonl"
    known = calibration.conditions
    same = {"dtype": known.dtype, "hardware": known.hardware, "weights_sha256": known.weights}
    like = [
        dataclasses.replace(row, temperature=0.0, **same)
        for row in synthetic_rows.experiment1(synthetic_rows.PANELS[:1], lengths=(2,))
    ]
    for row in like:
        append_row(rows, row)
    figure = tmp_path / "pictures" / "predicted.svg"
    compare = ("calibrate", "--out", out, "--figure", figure, "--against", rows)
    code, said, _ = rsd(capsys, *compare)
    assert code == 0
    assert "<svg" in figure.read_text()
    first, *_ = said.split("\n\n")
    shown = [line.split() for line in first.splitlines() if line.startswith("0 ")]
    (measured,) = [r.decoding for r in like if (r.method, r.tree) == ("sd", "2")]
    assert [line[1:4] for line in shown] == [["sd", "2", "recursive_rejection"]]
    assert float(shown[0][5]) == pytest.approx(measured.block_efficiency, abs=0.01)

    (base,) = [r for r in like if (r.method, r.tree) == ("sd", "2")]
    more = tmp_path / "more.jsonl"
    for method, tree, verifier in named:
        named = {"method": method, "tree": tree, "verifier": verifier}
        append_row(more, dataclasses.replace(base, **named))
    code, said, _ = rsd(capsys, *compare, more)
    assert code == 0
    (every,) = [line for line in said.splitlines() if line.startswith("0  all ")]
    assert f"  {calibration.best(0.0).candidate.words} " in every
    by_task = ("calibrate", "--against", rows, more, "--figure", figure, "--of_task")
    code, by_tasks, _ = rsd(capsys, *by_task, f"{like[0].task}={out}")
    assert code == 0
    plain, found = (text.splitlines()[2].split() for text in (said, by_tasks))
    assert found == [like[0].task, *plain]
    assert f"{like[0].task}, T = 0" in figure.read_text()
    assert by_tasks.partition("\n\n")[2] == said.partition("\n\n")[2]
    code, _, error = rsd(capsys, *compare[:3], "--against", rows, "--figure", "predicted.jpg")
    assert code == 2
    assert "write .png, .pdf or .svg" in error

    decode = ("generate", "--prompt", "two men", "--max_new_tokens", 8, "--calibration", out)
    code, auto, _ = rsd(capsys, *decode, "--method", "auto", "--temperature", 0)
    assert code == 0
    plain = rsd(capsys, *decode[:-2], "--method", "ar", "--temperature", 0)[1]
    assert auto == plain
    code, _, error = rsd(capsys, *decode, "--method", "auto", "--temperature", 1)
    assert code == 2
    assert "temperature=1 was not calibrated, only [0.0]" in error
    code, _, error = rsd(capsys, *decode, "--method", "auto", "--temperature", 0, "--top_p", "0.9")
    assert code == 2
    assert "top_p 1.0 there, 0.9 here" in error


@pytest.fixture
def calibration(monkeypatch, tiny_models):
    """Of the tiny pair, as if the named methods had been the fastest at T = 0 and T = 1."""
    monkeypatch.setattr(evaluate, "load_pair", lambda source: tiny_models)
    named = ((0.0, "sd", "2", "recursive_rejection"), (1.0, "rsd_s", "3x2", "coupling"))
    expected = [
        Expected(
            method=method,
            tree=tree,
            verifier=verifier,
            temperature=temperature,
            tokens=2.0,
            standard_error=0.1,
            blocks=9,
            nodes=3,
            seconds=0.1,
            prompt_seconds=0.2,
            answer=8.0,
        )
        for temperature, method, tree, verifier in named
    ]
    conditions = Conditions(
        **identity(*tiny.pair()),
        weights="",
        prompts=1,
        prompts_sha256="",
        max_new_tokens=8,
        timed_rows=1,
        timed_batches=1,
    )
    return Calibration(conditions=conditions, expected=tuple(expected))


def test_a_sweep_measures_the_fastest_methods_too(calibration, tmp_path):
    tasks = {"number_words": {"num_prompts": 1, "max_new_tokens": 4, "temperatures": (0.0, 1.0)}}
    sweep = sweeping.sweep(tmp_path, tasks=tasks, trees={"sd": ("3",), "rsd_s": ("4x2",)})
    more, load = evaluate._with_fastest(sweep, calibration)
    assert set(more.methods()) - set(sweep.methods()) == {
        ("sd", "2", "recursive_rejection"),
        ("rsd_s", "3x2", "recursive_rejection"),
        ("rsd_s", "3x2", "coupling"),
        ("rsd_s", "4x2", "coupling"),
    }
    assert set(sweep.methods()) <= set(more.methods())
    assert more.hash_of("tiny", "number_words") == sweep.hash_of("tiny", "number_words")
    again, _ = evaluate._with_fastest(more, calibration)
    assert again.methods() == more.methods()
    assert load(PairSource(shipped="quickstart")).target is tiny.pair()[0]


def test_a_calibration_that_does_not_hold_for_a_sweep_is_refused(calibration, tmp_path):
    conditions = dataclasses.replace(calibration.conditions, vocab_size=7, top_p=0.9)
    task = {"num_prompts": 1, "max_new_tokens": 4, "temperatures": (0.5,)}
    for changes, given, message in (
        ({}, calibration, "temperature=0.5 was not calibrated"),
        (
            {"temperatures": (0.0,)},
            dataclasses.replace(calibration, conditions=conditions),
            r"top_k=None, top_p=0\.9; tasks\.number_words has top_k=None, top_p=1\.0",
        ),
    ):
        sweep = sweeping.sweep(tmp_path, tasks={"number_words": task | changes})
        with pytest.raises(ConfigError, match=message):
            evaluate._with_fastest(sweep, given)
    conditions = dataclasses.replace(calibration.conditions, vocab_size=7)
    sweep = sweeping.sweep(tmp_path, tasks={"number_words": task | {"temperatures": (0.0,)}})
    _, load = evaluate._with_fastest(sweep, dataclasses.replace(calibration, conditions=conditions))
    with pytest.raises(ConfigError, match="vocab_size 7 there, 32 here"):
        load(PairSource(shipped="quickstart"))
    warm = sweeping.sweep(
        tmp_path, tasks={"number_words": task | {"temperatures": (0.0,)}}, draft_temperature=0.5
    )
    with pytest.raises(ConfigError, match=r"sd 2 has draft_temperature=None, not 0\.5"):
        evaluate._with_fastest(warm, calibration)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("generate", "--prompt", "a", "--method", "auto"), "needs --calibration"),
        (("generate", "--prompt", "a", "--calibration", "x.json"), "no other method has one"),
        (
            ("generate", "--prompt", "a", "--method", "auto", "--calibration", "x", "--tree", "4"),
            "--tree belongs to a method",
        ),
        (
            ("generate", "--prompt", "a", "--method", "auto", "--calibration", "none.json"),
            "none.json cannot be read",
        ),
        (("calibrate", "--methods", "sd"), "METHOD:TREE"),
        (("calibrate", "--methods", "medusa:4"), "unknown method 'medusa'"),
        (("calibrate", "--template", "chat"), "give --prompts"),
        (("calibrate", "--timed_rows", "0"), "timed_rows=0"),
        (("calibrate", "--timed_rows", "99"), "timed_rows=99"),
        (("calibrate", "--figure", "x.png"), "give --against ROWS"),
        (("calibrate", "--of_task", "a=b.json"), "give --against ROWS"),
        (("calibrate", "--of_task", "a.json"), "'a.json' must be TASK=FILE"),
        (("calibrate", "--against", "r", "--of_task", "a=b", "a=c"), "names a task twice"),
    ],
)
def test_bad_flags(given, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, error = rsd(capsys, *given)
    assert code == 2
    assert message in error
