"""What `rsd` says of bad input, and its exit codes."""

import os
import subprocess
import sys
import warnings

import pytest

from rsd_jax.cli import main
from rsd_jax.cli.commands import check, evaluate, plot
from rsd_jax.errors import NonFiniteLossError
from tests import ROOT


def _said(capsys, *arguments):
    """The exit code and the lines on standard error."""
    code = main.main([str(each) for each in arguments])
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("genrate",), "'genrate'"),
        (("--traceback_",), "--traceback_"),
        (("generate", "--max-new-tokens", "3"), "3 (similar: --max_new_tokens)"),
        (("benchmark", "--nopeers"), "(similar: --no-peers)"),
        (("benchmark", "--passes", "--skipping"), "exclude each other; give one"),
        (("benchmark", "--llama_cpp", "x", "--shape", "tiny_target"), "leave out --shape"),
        (("benchmark", "--llama_cpp", "x", "--batch_sizes", "2"), "add 1 to --batch_sizes"),
        (("evaluate", "--dry_runs"), "(similar: --dry_run)"),
        (("generate", "--config.a=1"), "--config.a=1"),
        (("generate", "--prompt", " "), "--prompt is blank"),
        (("generate", "--prompt", "x", "--prompt_file", "y"), "exclude each other"),
        (("generate", "--prompt_file", "no_such_file"), "no_such_file cannot be read"),
        (("generate", "--prompts", "x", "--prompt", "y"), "--prompt and --prompts exclude each"),
        (("generate", "--prompts", "no_such_file"), "no_such_file' is not a file"),
        (("generate", "--prompts", "x", "--show", "accepted"), "--show=accepted is for one prompt"),
        (("generate", "--prompt", "x", "--out", "y"), "--out is for a file of prompts"),
        (("generate", "--prompt", "x", "--batch_size", "2"), "--batch_size is for a file of"),
        (("generate", "--prompt", "x", "--system", "y"), "give --chat"),
        (("generate", "--prompt", "x", "--chat", "--parse_special"), "--parse_special"),
        (("generate", "--prompt", "x", "--method", "rsd"), "'rsd'"),
        (("generate", "--prompt", "x", "--method", "rsd_s", "--tree", "4"), "'6x5'"),
        (("generate", "--prompt", "x", "--tree", "4x4"), "give --method"),
        (("generate", "--prompt", "x", "--draft_temperature", "0"), "give --method"),
        (("generate", "--prompt", "x", "--method", "swift", "--option", "length"), "NAME=VALUE"),
        (("generate", "--prompt", "x", "--method", "swift", "--option", "lenth=3"), "lenth"),
        (
            ("generate", "--prompt", "x", "--method", "sd", "--option", "length=3", "--tree", "3"),
            "exclude each other",
        ),
        (
            ("generate", "--prompt", "x", "--method", "rsd_s", "--verifier", "k_seq"),
            "KSeq is lossless only for",
        ),
        (("generate", "--prompt", "x", "--target", "y", "--method", "sd"), "give --draft"),
        (("generate", "--prompt", "x", "--temperature=-1"), "temperature=-1.0"),
        (("generate", "--prompt", "x", "--max_new_tokens", "0"), "max_new_tokens=0"),
        (("generate", "--prompt", "x", "--target", "/no/such/model"), "/no/such/model"),
        (("generate", "--prompt", "x", "--pair", "smollm2"), "needs a source"),
        (("generate", "--prompt", "x", "--source", "hub"), "--pair=smollm2"),
        (("generate", "--prompt", "x", "--draft", "y"), "--target"),
        (("generate", "--prompt", "x", "--adapter", "y"), "--target"),
        (("generate", "--prompt", "x", "--share_tokens"), "--draft"),
        (("generate", "--prompt", "x", "--pair", "quickstart", "--target", "y"), "exclude"),
        (("chat",), "--pair=smollm2"),
        (("evaluate", "--config", "experimnt1"), "experiment1, experiment2"),
        (("evaluate", "--config", "swift_stream"), "arena, experiment1"),
        (("evaluate", "--config", "elsewhere/arena.py"), "--config=arena"),
        (("evaluate", "--config", "experiment1:quikc"), "'quikc'"),
        (("evaluate", "--config.batch_sze=2"), "batch_sze"),
        (("evaluate", "--config.batch_size=many"), "batch_size=many"),
        (("evaluate", "more"), "more"),
        (("distill", "--config", "any_llama:small"), "no variants"),
        (("distill", "--stage", "trian"), "'trian'"),
        (("plot", "no_such_rows.jsonl"), "no_such_rows.jsonl"),
        (("plot",), "rows"),
        (("benchmark", "--pair", "smollm2", "--shape", "llama2_7b"), "exclude each other"),
        (("benchmark", "--repeats", "few"), "'few'"),
        (("benchmark", "--passes", "--repeats", "0"), "--repeats=0 must be"),
        (("benchmark", "--skipping", "--context", "0"), "--context=0 must be"),
    ],
)
def test_bad_input_is_one_line_and_code_2(arguments, names, capsys):
    code, said = _said(capsys, *arguments)
    assert code == 2
    assert said.startswith("error: ")
    assert names in said
    assert said.count("\n") == 1


def test_a_traceback_is_shown_if_it_is_asked_for(capsys):
    code, said = _said(capsys, "plot", "no_such_rows.jsonl", "--traceback")
    assert code == 2
    assert said.startswith("Traceback")
    assert "no_such_rows.jsonl" in said.splitlines()[-1]


def _raises(error):
    def run(args):
        raise error

    return run


def test_an_error_of_several_lines_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(plot, "run", _raises(OSError("first\n  second")))
    assert _said(capsys, "plot", "x") == (2, "error: first second\n")


def test_a_failure_that_is_not_the_input_has_code_1(monkeypatch, capsys):
    monkeypatch.setattr(plot, "run", _raises(NonFiniteLossError(3, float("nan"), 1.0, None)))
    code, said = _said(capsys, "plot", "x")
    assert code == 1
    assert said.startswith("error: step 3")
    monkeypatch.setattr(plot, "run", _raises(SystemExit("2 cells failed")))
    assert _said(capsys, "plot", "x") == (1, "2 cells failed\n")


def test_too_little_memory_is_one_line(monkeypatch, capsys):
    error = RuntimeError(
        "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes.\nmore"
    )
    monkeypatch.setattr(plot, "run", _raises(error))
    code, said = _said(capsys, "plot", "x")
    assert code == 1
    assert said.startswith("error: the device has too little memory (RESOURCE_EXHAUSTED: Out of")
    assert "more" not in said
    monkeypatch.setattr(plot, "run", _raises(RuntimeError("other")))
    with pytest.raises(RuntimeError, match="other"):
        main.main(["plot", "x"])


def test_a_mistake_in_the_code_is_not_hidden(monkeypatch):
    monkeypatch.setattr(plot, "run", _raises(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        main.main(["plot", "x"])


def test_a_warning_is_one_line(monkeypatch, capsys):
    def run(args):
        warnings.simplefilter("always")
        warnings.warn("look\nthere", stacklevel=2)

    monkeypatch.setattr(plot, "run", run)
    assert _said(capsys, "plot", "x") == (0, "warning: look there\n")


def test_ctrl_c_says_so(monkeypatch, capsys):
    monkeypatch.setattr(plot, "run", _raises(KeyboardInterrupt()))
    assert _said(capsys, "plot", "x") == (130, "interrupted\n")


def test_ctrl_c_in_a_sweep_says_where_the_rows_are(monkeypatch, capsys, tmp_path):
    def stopped(sweep, load, watcher, **chosen):
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluate, "run_sweep", stopped)
    code, said = _said(capsys, "evaluate", "--tasks", "completion", f"--config.out_dir={tmp_path}")
    assert code == 130
    last = said.splitlines()[-1]
    assert last.startswith("interrupted; 0 of 17 cells were measured")
    assert str(tmp_path / "results.jsonl") in last


def test_a_reader_that_wants_no_more_is_no_error():
    code = "import sys; from rsd_jax.cli import main; sys.exit(main.main(sys.argv[1:]))"
    reading, writing = os.pipe()
    os.close(reading)
    run = subprocess.run(
        [sys.executable, "-c", code, "--print-completion", "bash"],
        cwd=ROOT,
        stdout=writing,
        stderr=subprocess.PIPE,
        timeout=60,
    )
    os.close(writing)
    assert run.returncode == 1
    assert run.stderr == b""


def test_programs_are_kept_for_commands_that_do_not_measure(monkeypatch, tmp_path):
    """In a folder of the user, unless the user names another one or it cannot be made."""
    name = "JAX_COMPILATION_CACHE_DIR"
    monkeypatch.setattr(plot, "run", lambda args: None)
    monkeypatch.setattr(check, "run", lambda args: None)
    monkeypatch.delenv(name)
    assert main.main(["plot", "x"]) == 0
    assert name not in os.environ
    (tmp_path / "cache").write_text("a file")
    assert main.main(["check"]) == 0
    assert name not in os.environ
    (tmp_path / "cache").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda *args: False)
        assert main.main(["check"]) == 0
        assert name not in os.environ
    assert main.main(["check"]) == 0
    assert os.environ[name] == str(tmp_path / "cache/rsd_jax/programs")
    assert os.environ["JAX_COMPILATION_CACHE_MAX_SIZE"] == str(2**30)
    monkeypatch.setenv(name, "elsewhere")
    assert main.main(["check"]) == 0
    assert os.environ[name] == "elsewhere"
