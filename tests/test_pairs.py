"""Pairs from disk, as the launchers load them: a draft whose tokenizer is not the target's."""

import shutil
import warnings

import pytest

import rsd_jax
from launch.pairs import load_pair
from rsd_jax.evaluation.sweep.settings import PairSource
from rsd_jax.models.checkpoint import save_model
from rsd_jax.testing.tiny_llama import TINY_CONFIG, tiny_params
from tests import tiny_tokenizers


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders `target` and `draft` with weights and the same tokenizer."""
    root = tmp_path_factory.mktemp("pair")
    for seed, name in enumerate(("target", "draft")):
        save_model(root / name, TINY_CONFIG, tiny_params(seed), dtype="float32")
        tiny_tokenizers.chatml().save_pretrained(root / name)
    return root


def _load(root) -> rsd_jax.LoadedPair:
    return load_pair(PairSource(target=str(root / "target"), draft=str(root / "draft")))


def test_equal_tokenizers_get_no_warning(models, tmp_path):
    """Nor does a draft without a tokenizer, or one with more tokens behind the target's."""
    root = shutil.copytree(models, tmp_path / "pair")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert _load(root).tokenizer.chat_template == tiny_tokenizers.CHATML
        longer = tiny_tokenizers.chatml()
        longer.add_tokens(["more"])
        longer.save_pretrained(root / "draft")
        _load(root)
        for path in (root / "draft").glob("*token*"):
            path.unlink()
        _load(root)


def test_another_tokenizer_gets_one_warning(models, tmp_path):
    root = shutil.copytree(models, tmp_path / "pair")
    tiny_tokenizers.with_bos().save_pretrained(root / "draft")
    message = r"target and .*draft differ: id 0 is '<\|endoftext\|>' there and '<s>' here"
    with pytest.warns(UserWarning, match=message) as seen:
        _load(root)
    assert len(seen) == 1
