"""The flags of `rsd`: help, examples, names, completion, and a start without JAX."""

import shlex
import subprocess
import sys

import pytest

from rsd_jax.cli import choices, main
from rsd_jax.cli.flags import COMMANDS
from rsd_jax.distillation.pipeline import EXTRA_STAGES, STAGES
from rsd_jax.engine.methods import METHODS, method_of_tree
from rsd_jax.errors import ConfigError
from rsd_jax.models.pairs import SOURCES, check_pair_name
from rsd_jax.reporting.experiment.selection import CHOICES
from rsd_jax.reporting.figures import FORMATS
from rsd_jax.verifiers import VERIFIERS
from tests import ROOT

_HEAVY = ("jax", "flax", "numpy", "transformers", "ml_collections", "absl", "matplotlib", "tqdm")


def test_the_names_are_those_of_the_registries():
    assert sorted(choices.METHODS) == sorted(METHODS)
    assert sorted(choices.VERIFIERS) == sorted(VERIFIERS)
    assert tuple(STAGES) == choices.STAGES
    assert tuple(EXTRA_STAGES) == choices.EXTRA_STAGES
    assert choices.BEST_BY == CHOICES
    assert tuple(FORMATS) == choices.FORMATS
    with pytest.raises(ConfigError) as refused:
        check_pair_name("no such pair")
    assert str(refused.value).endswith(f"known: {list(choices.PAIRS)}")
    assert SOURCES["smollm2"] == choices.SOURCES
    assert choices.DEFAULT_OF_PAIR.keys() <= set(choices.PAIRS)
    for name, tree in (*choices.TREES.items(), *choices.DEFAULT_OF_PAIR.values()):
        for each in {name, f"self_{name}"} & set(METHODS):
            assert method_of_tree(each, tree).tree == tree


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_the_summary_and_examples(name, capsys):
    assert main.main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: rsd {name}")
    assert COMMANDS[name].summary in shown
    assert f"examples:\n  rsd {name}" in shown or f"JAX_PLATFORMS=cpu rsd {name}" in shown


def _examples(name):
    text = COMMANDS[name].examples.replace("\\\n", " ")
    return [line.strip() for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize("example", [line for name in COMMANDS for line in _examples(name)])
def test_examples_are_accepted(example):
    words = shlex.split(example)
    given = words[words.index("rsd") + 1 :]
    args, unread = main.parser().parse_known_args(given)
    assert args.command in COMMANDS
    assert all(flag.startswith("--config.") for flag in unread), unread
    COMMANDS[args.command].check(args)


def test_rsd_alone_shows_the_commands(capsys):
    assert main.main([]) == 2
    said = capsys.readouterr()
    assert not said.out
    for name, command in COMMANDS.items():
        assert f"    {name}" in said.err
        assert command.summary.split()[0] in said.err


def test_the_version_is_shown(capsys):
    assert main.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("rsd_jax ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_knows_commands_and_names(shell, capsys):
    assert main.main(["--print-completion", shell]) == 0
    shown = capsys.readouterr().out
    for word in ("generate", "distill", "draft_temperature", "self_spectr", "coupling"):
        assert word in shown


def test_completion_says_what_it_needs(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main.main(["--print-completion", "bash"]) == 2
    assert "pip install shtab" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["generate", "--help"], 0),
        (["evaluate", "--help"], 0),
        (["distill", "--stage", "trian"], 2),
        (["generate", "--no_such_flag"], 2),
        (["evaluate", "--no_such_flag"], 2),
        (["evaluate", "--config", "no_such_name"], 2),
        (["benchmark", "--layers", "2"], 2),
    ],
)
def test_help_and_wrong_flags_need_neither_jax_nor_what_else_takes_long(arguments, code):
    start = (
        f"import sys; sys.modules.update(dict.fromkeys({_HEAVY!r})); "
        f"from rsd_jax.cli.main import main; sys.exit(main({arguments!r}))"
    )
    run = subprocess.run(
        [sys.executable, "-c", start], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == code, run.stderr
    assert run.stderr.count("\n") == (code != 0)
