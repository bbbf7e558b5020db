"""Every launcher shows its flags, and reports an error in one line that names the mistake."""

import runpy
import shutil
import sys

import pytest

from tests import ROOT

_LAUNCHERS = ("accelerator", "benchmark", "distill", "evaluate", "plot", "quickstart", "stream")
_SWEEP = "configs/evaluate/experiment1.py"


def _launch(name, *arguments):
    """Runs a launcher in this process; the value of its `SystemExit`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "launch"))
        patch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            runpy.run_path(str(ROOT / "launch" / f"{name}.py"), run_name="__main__")
    return caught.value.code


@pytest.mark.parametrize("name", _LAUNCHERS)
def test_help_begins_with_what_the_launcher_does(name, capsys):
    assert _launch(name, "--help") == 0
    shown = capsys.readouterr().out
    source = (ROOT / "launch" / f"{name}.py").read_text(encoding="utf-8")
    assert source.split('"""')[1].splitlines()[0] in shown
    assert "show this help message" in shown


@pytest.mark.parametrize("name", _LAUNCHERS)
def test_an_unknown_flag_is_named(name):
    said = _launch(name, *["rows.jsonl"] * (name == "plot"), "--no_such_flag=1")
    assert said.startswith("error: ")
    assert "no_such_flag" in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("name", "arguments", "names"),
    [
        ("evaluate", ("--config=no_such_file.py",), "no_such_file.py"),
        ("evaluate", (f"--config={_SWEEP}:quikc",), "'quikc'"),
        ("evaluate", ("--config=launch/launcher.py",), "get_config"),
        ("evaluate", ("--config.tasks.number_words.num_promts=8",), "num_promts"),
        ("evaluate", ("--config.batch_size=many",), "batch_size=many"),
        ("evaluate", ("--config.batch_size=0",), "batch_size=0"),
        ("evaluate", ("number_words",), "number_words"),
        ("stream", ("--config.sead=1",), "sead"),
        ("distill", ("--config.draft.recipe.step=1",), "step"),
        ("distill", ("--stage=trian",), "trian"),
        ("distill", ("--mesh", "64", "64"), "64"),
        ("accelerator", ("tabel",), "'tabel'"),
        ("accelerator", ("table", "--minutes=0"), "--minutes=0"),
        ("benchmark", ("--layers=2",), "--shape"),
        ("benchmark", ("--repeats=few",), "--repeats"),
        ("quickstart", ("--num_prompts=0",), "--num_prompts=0"),
        ("quickstart", ("--tokenizer=x",), "--pair_dir"),
        ("plot", ("no_such_rows.jsonl",), "no_such_rows.jsonl"),
    ],
)
def test_a_mistake_is_one_line(name, arguments, names, monkeypatch):
    monkeypatch.chdir(ROOT)
    said = _launch(name, *arguments)
    assert said.startswith("error: ")
    assert names in said
    assert "\n" not in said


def test_a_pair_without_a_tokenizer_is_one_line(tmp_path, monkeypatch):
    pair = shutil.copytree(ROOT / "rsd_jax/assets/quickstart", tmp_path / "pair")
    for path in (pair / "target").glob("*token*"):
        path.unlink()
    said = _launch("quickstart", f"--pair_dir={pair}", f"--out_dir={tmp_path / 'out'}")
    assert said.startswith(f"error: {pair / 'target'} holds no tokenizer")
    assert "\n" not in said
    given = (f"--pair_dir={pair}", f"--tokenizer={tmp_path / 'other'}")
    said = _launch("quickstart", *given, f"--out_dir={tmp_path / 'out'}")
    assert said.startswith(f"error: {tmp_path / 'other'} is not a directory")
    said = _launch("quickstart", f"--pair_dir={tmp_path}", f"--out_dir={tmp_path / 'out'}")
    assert said.startswith(f"error: {tmp_path / 'target'} is not a directory")


def test_a_folder_that_cannot_be_made_is_named_before_anything_is_measured(tmp_path):
    file = tmp_path / "file"
    file.touch()
    assert str(file) in _launch("quickstart", f"--out_dir={file / 'out'}")
    assert str(file) in _launch("benchmark", f"--out={file / 'rows.jsonl'}")
    assert str(file) in _launch("evaluate", f"--config.out_dir={file / 'out'}")
