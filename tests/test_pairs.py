"""Pairs from disk, as the launchers load them: a draft whose tokenizer is not the target's."""

import dataclasses
import shutil
import warnings

import jax
import pytest

import rsd_jax
from rsd_jax.cli.pairs import load_pair
from rsd_jax.evaluation.sweep.settings import PairSource
from rsd_jax.models.checkpoint import save_model
from rsd_jax.testing.tiny_llama import TINY_CONFIG, tiny_params
from tests import tiny_tokenizers
from tests.gguf_writing import tokenizer_metadata, write


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


def test_a_tokenizer_may_be_named(models, tmp_path):
    """For a target whose folder has none: a folder, a file of it, or a GGUF file."""
    root = shutil.copytree(models, tmp_path / "pair")
    for path in root.glob("*/*token*"):
        path.unlink()
    with pytest.raises(rsd_jax.CheckpointError, match=r"holds no tokenizer.*as `tokenizer`"):
        _load(root)
    tokenizer = tiny_tokenizers.chatml()
    file = write(tmp_path / "x.gguf", tokenizer_metadata(tokenizer, "gpt-2"))
    for given in (models / "draft", models / "draft" / "tokenizer.json", file):
        source = PairSource(target=str(root / "target"), tokenizer=str(given))
        assert load_pair(source).tokenizer.get_vocab() == tokenizer.get_vocab()
    tiny_tokenizers.with_bos().save_pretrained(root / "draft")
    target, draft = (str(root / name) for name in ("target", "draft"))
    source = PairSource(target=target, draft=draft, tokenizer=str(models / "draft"))
    with pytest.warns(UserWarning, match="draft and .*pair/draft differ"):
        load_pair(source)


def test_another_tokenizer_gets_one_warning(models, tmp_path):
    root = shutil.copytree(models, tmp_path / "pair")
    tiny_tokenizers.with_bos().save_pretrained(root / "draft")
    message = r"target and .*draft differ: id 0 is '<\|endoftext\|>' there and '<s>' here"
    with pytest.warns(UserWarning, match=message) as seen:
        _load(root)
    assert len(seen) == 1


def test_another_tokenizer_may_share_tokens(models, tmp_path):
    """Without a warning; every method decodes the target's greedy tokens."""
    root = shutil.copytree(models, tmp_path / "pair")
    tiny_tokenizers.with_bos().save_pretrained(root / "draft")
    target, draft = (str(root / name) for name in ("target", "draft"))
    source = PairSource(target=target, draft=draft, share_tokens=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pair = load_pair(source)
    known = pair.draft.params["draft_ids"] >= 0
    assert 0 < known.sum() < known.size
    assert source.hashed() == {"share_tokens": True}
    options = {"max_new_tokens": 12, "temperature": 0.0}
    prompts = [[1, 2, 3], [30]]
    methods = [rsd_jax.build_method("ar"), rsd_jax.build_method("rsd_s", width=3, length=2)]
    results = [
        rsd_jax.generate(each, pair.target, pair.draft, prompts, **options) for each in methods
    ]
    assert results[0].tokens == results[1].tokens
    (root / "draft" / "tokenizer.json").unlink()
    with pytest.raises(rsd_jax.CheckpointError, match="draft holds no tokenizer"):
        load_pair(source)


def test_a_draft_may_be_replicated(models):
    target, draft = (str(models / name) for name in ("target", "draft"))
    source = PairSource(target=target, draft=draft, replicate_draft=True)
    assert source.hashed() == {"replicate_draft": True}
    mesh = jax.make_mesh((2, 2), ("data", "model"), devices=jax.devices()[:4])
    for pair in (
        load_pair(source, mesh),
        load_pair(dataclasses.replace(source, share_tokens=True), mesh),
        load_pair(PairSource(shipped="quickstart", replicate_draft=True), mesh),
    ):
        assert not pair.target.layout.replicated
        leaves = jax.tree.leaves(pair.draft.params)
        assert all(leaf.sharding.is_fully_replicated for leaf in leaves)
        split = jax.tree.leaves(pair.target.params)
        assert not all(leaf.sharding.is_fully_replicated for leaf in split)
    assert load_pair(source).draft.layout is None


def test_shared_tokens_on_a_mesh(models, tmp_path):
    root = shutil.copytree(models, tmp_path / "pair")
    tiny_tokenizers.with_bos().save_pretrained(root / "draft")
    target, draft = (str(root / name) for name in ("target", "draft"))
    source = PairSource(target=target, draft=draft, share_tokens=True)
    method = rsd_jax.build_method("sd", length=3)
    found = []
    for mesh in (None, jax.make_mesh((1, 2), ("data", "model"))):
        pair = load_pair(source, mesh)
        found.append(rsd_jax.generate(method, pair.target, pair.draft, [[1, 2]], max_new_tokens=8))
    assert found[0].tokens == found[1].tokens
