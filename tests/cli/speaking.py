"""Shared by tests: commands that decode, on the tiny pair with a tokenizer of letters."""

import io
import sys

import pytest

from rsd_jax.cli import chosen, main
from rsd_jax.models.pairs import LoadedPair
from tests import sweeping, tiny


@pytest.fixture
def tiny_models(monkeypatch):
    """Has every command load the tiny pair."""
    pair = LoadedPair(*tiny.pair(), sweeping.Letters())
    monkeypatch.setattr(chosen, "load_pair", lambda source: pair)
    return pair


def give(monkeypatch, text: str | bytes) -> None:
    """Sets standard input, which is no terminal."""
    data = text if isinstance(text, bytes) else text.encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))


def rsd(capsys, *arguments):
    """Runs `rsd`; exit code, standard output and standard error."""
    code = main.main([str(each) for each in arguments])
    said = capsys.readouterr()
    return code, said.out, said.err
