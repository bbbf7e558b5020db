"""`rsd check` on the tiny pair: its report, and that it notices what is wrong."""

import dataclasses

import pytest

from rsd_jax.cli.commands import check
from rsd_jax.drafters import ConstantBranching
from rsd_jax.models.pairs import LoadedPair
from rsd_jax.tasks.prompts import Prompt
from rsd_jax.verifiers import VERIFIERS
from rsd_jax.verifiers.recursive_rejection import RecursiveRejection
from tests import sweeping, tiny
from tests.cli.speaking import rsd


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """The tiny pair, short answers and one small law."""
    pair = LoadedPair(*tiny.pair(), sweeping.Letters())
    monkeypatch.setattr(check, "load_pair", lambda name: pair)
    prompts = [Prompt("one", "two men", ""), Prompt("two", "ten men", "")]
    monkeypatch.setattr(check, "load_prompts", lambda: prompts)
    monkeypatch.setattr(check, "MAX_NEW_TOKENS", 6)
    monkeypatch.setattr(check, "METHODS", (("ar", "-"), ("rsd_s", "3x2")))
    monkeypatch.setattr(check, "LAWS", ((ConstantBranching((2,)), "recursive_rejection"),))


def test_the_report(capsys):
    code, out, err = rsd(capsys, "check")
    assert (code, err) == (0, "")
    for part in ("python 3", "jax ", "processor: ", "device 0: cpu", "same tokens", "tokens/s"):
        assert part in out
    assert "rsd_c 2, recursive_rejection" in out
    assert out.endswith("all checks passed\n")


@pytest.fixture
def changed_tokens(monkeypatch):
    """Has the tree method give another last token in both rows."""
    compare = check.compare

    def changed(*arguments):
        (first, second), others = compare(*arguments)
        rows = [[*row[:-1], (row[-1] + 1) % 32] for row in second.tokens]
        return [first, dataclasses.replace(second, tokens=rows)], others

    monkeypatch.setattr(check, "compare", changed)


@pytest.mark.usefixtures("changed_tokens")
def test_other_tokens_are_noticed(capsys):
    code, out, err = rsd(capsys, "check")
    assert code == 1
    assert "FAILED: 2 rows differ" in out
    assert "passed" not in out
    assert err == "check failed: the greedy tokens of rsd_s 3x2 are not those of ar\n"


@pytest.mark.usefixtures("changed_tokens")
def test_a_tie_is_no_failure(capsys, monkeypatch):
    monkeypatch.setattr(check, "margin", lambda target, prefix: check.TIE)
    code, out, err = rsd(capsys, "check")
    assert (code, err) == (0, "")
    assert "2 rows differ, at ties" in out


def test_a_law_that_is_not_the_targets_is_noticed(capsys, monkeypatch):
    @dataclasses.dataclass(frozen=True)
    class Generous(RecursiveRejection):
        """Accepts too often."""

        def test(self, tree, node, log_p, uniforms, **options):
            return super().test(tree, node, log_p, uniforms * 0.5, **options)

    monkeypatch.setitem(VERIFIERS, "recursive_rejection", Generous)
    code, out, err = rsd(capsys, "check")
    assert code == 1
    assert "FAILED" in out
    assert err.startswith("check failed: Generous")
