"""Malformed command lines of `rsd`: one line on standard error and exit code 2, or accepted."""

import os
import random
import shlex
import sys

import pytest

from rsd_jax.cli import chosen, main
from rsd_jax.cli.flags import COMMANDS
from rsd_jax.distillation.settings import Settings
from rsd_jax.evaluation.stream.settings import StreamSettings
from rsd_jax.evaluation.sweep.definition import Sweep

_ODD = (
    "",
    " ",
    "-",
    "--",
    "---",
    "--=",
    "-1",
    "0",
    "nan",
    "inf",
    "1e999",
    "9" * 5000,
    "\0",
    "\ud800",
    "\u0663",
    "x" * 5000,
    "x\ny",
    "%s",
    "{}",
    "@x",
    "/",
    ".",
    "/dev/null",
    "--config",
    "--config=/",
    "--config=/dev/null",
    "--config.=1",
    "--config.a.b.c=1",
    "--config.batch_size=1e999",
    "--config.batch_size=[",
    "--config.tasks.wmt18_de_en.num_prompts=" + "9" * 400,
    "--config.seeds=(1,",
    "--config.out_dir=\0",
    "--seed=99999999999999999999999",
    "--temperature=nan",
    "--top_p=inf",
    "--top_k=0",
    "--tree=9999999x9999999",
    "--tree=2-2-2-2-2-2-2-2-2-2-2-2-2-2-2-2-2-2-2-2-2-2-2-2-2",
    "--tree=x",
    "--option=length=10**9",
    "--option=length=[[[[",
    "--option=length=" + "(" * 300,
    "--option==1",
    "--option=length",
    "--verifier=coupling",
    "--method=swift",
    "--batch_sizes",
)
_EACH = 40 * int(os.environ.get("RSD_JAX_MALFORMED", "1"))


def _settle(name, args):
    """What a command does with its flags before it reads or writes a file."""
    if name in ("generate", "chat"):
        chosen.method_of(args)
        chosen.sampling_of(args)
    kinds = {"evaluate": Sweep, "stream": StreamSettings, "distill": Settings}
    if name in kinds and not args.config.get("target_directory"):
        kinds[name].from_config(args.config)


def _examples(name):
    text = COMMANDS[name].examples.replace("\\\n", " ")
    lines = [shlex.split(line) for line in text.splitlines() if line.strip()]
    return [words[words.index("rsd") + 1 :] for words in lines]


def _changed(words, rng):
    """The words with one of them dropped, doubled, replaced, changed, or one more."""
    made, at = list(words), rng.randrange(len(words))
    odd = rng.choice(_ODD)
    kind = rng.randrange(5)
    if kind == 0:
        del made[at]
    elif kind == 1:
        made.insert(at, made[at])
    elif kind == 2:
        made[at] = odd
    elif kind == 3:
        flag, equals, _ = made[at].partition("=")
        made[at] = f"{flag}={odd}" if equals or flag.startswith("-") else made[at] + odd
    else:
        made.insert(rng.randrange(1, len(made) + 1), odd)
    return made


@pytest.mark.parametrize("name", COMMANDS)
def test_a_malformed_command_line_is_one_line(name, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(main, "run_command", _settle)
    monkeypatch.setattr(main, "_prepare", lambda **options: None)
    monkeypatch.chdir(tmp_path)
    sys.stderr.reconfigure(errors="backslashreplace")  # as that of a process is
    rng, codes = random.Random(name), []
    for _ in range(_EACH):
        words = _changed(rng.choice(_examples(name)), rng)
        words += rng.sample(_ODD, rng.randrange(2))
        try:
            code = main.main(words)
        except Exception as error:
            raise AssertionError(f"{words!r:.300}: {type(error).__name__}: {error}") from error
        said = capsys.readouterr().err
        assert code in (0, 2), words
        errors = [line for line in said.splitlines() if not line.startswith("warning: ")]
        if code == 2 and words and "--traceback" not in words:
            assert len(errors) == 1, (words, said)
            assert errors[0].startswith("error: "), (words, said)
            assert len(errors[0]) > 20, (words, said)
        codes.append(code)
    assert not list(tmp_path.iterdir())
    assert codes.count(2) > _EACH / 4
