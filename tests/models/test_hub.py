"""Models by their names on the Hub, with a downloader of the tests; no socket is opened."""

import fnmatch
import hashlib
import pathlib
import types

import jax
import numpy as np
import pytest
from huggingface_hub import errors

import rsd_jax
from rsd_jax.cli.pairs import load_pair
from rsd_jax.distillation.settings import Settings
from rsd_jax.distillation.target_vocabulary import with_target_vocabulary
from rsd_jax.distillation.workspace import Workspace
from rsd_jax.errors import CheckpointError, ConfigError
from rsd_jax.evaluation.sweep.settings import PairSource
from rsd_jax.models.checkpoint import save_model
from rsd_jax.models.hub import hub_name
from rsd_jax.models.loading import load_tokenizer
from rsd_jax.testing.tiny_llama import TINY_CONFIG, tiny_params
from tests import tiny_tokenizers
from tests.hub import COMMIT, Hub


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A model's folder with its tokenizer; not to be changed."""
    root = tmp_path_factory.mktemp("files")
    save_model(root, TINY_CONFIG, tiny_params(0), dtype="float32", max_shard_bytes=4_000)
    tiny_tokenizers.chatml().save_pretrained(root)
    return root


@pytest.fixture
def hub(files, tmp_path, monkeypatch):
    """In an empty folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return Hub(files, tmp_path / "cache", monkeypatch)


def test_a_name_gives_the_models_files_and_the_model_says_which(hub, files):
    loaded = rsd_jax.load_model("owner/a.name-1")
    expected = rsd_jax.load_model(files)
    jax.tree.map(np.testing.assert_array_equal, loaded.params, expected.params)
    assert loaded.model == expected.model
    assert expected.origin is None
    shards = sorted(files.glob("model-*.safetensors"))
    assert len(shards) > 1
    whole = hashlib.sha256(b"".join(shard.read_bytes() for shard in shards)).hexdigest()
    assert loaded.origin == (f"owner/a.name-1@{COMMIT}", whole)
    (asked,), (fetched,) = hub.asked, hub.fetched
    assert asked == {"name": "owner/a.name-1", "revision": None, "timeout": asked["timeout"]}
    assert fetched["revision"] == COMMIT
    assert 0 < asked["timeout"] <= 10
    assert fetched["etag_timeout"] <= 10


def test_weights_and_tokenizer_are_of_one_commit(hub):
    load_tokenizer("owner/name")
    rsd_jax.load_model("owner/name")
    assert len(hub.asked) == len(hub.fetched) == 1


def test_only_what_is_read_is_fetched(hub):
    rsd_jax.load_model("owner/name")
    (fetched,) = hub.fetched
    wanted = {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "model-00001-of-00002.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "tokenizer.model",
        "vocab.json",
        "merges.txt",
        "chat_template.jinja",
        "additional_chat_templates/rag.jinja",
    }
    other = {
        "consolidated.safetensors",
        "pytorch_model.bin",
        "original/consolidated.00.pth",
        "onnx/model.onnx",
        "model.gguf",
        "modeling_custom.py",
        "README.md",
    }
    kept = {
        name
        for name in wanted | other
        if any(fnmatch.fnmatch(name, pattern) for pattern in fetched["allow_patterns"])
    }
    assert kept == wanted
    assert "tqdm_class" not in fetched  # the downloader's own bar


def test_a_revision_is_asked_for(hub):
    loaded = rsd_jax.load_model("owner/name@refs/pr/3")
    assert hub.asked[0]["revision"] == "refs/pr/3"
    assert loaded.origin.name == f"owner/name@{COMMIT}"


@pytest.mark.parametrize(
    "path",
    ["./owner/name", "/owner/name", "name", "a/b/c", "../name", "~/name", "owner/name.gguf", ""],
)
def test_paths_are_not_asked_for(hub, path):
    for read in (rsd_jax.load_model, load_tokenizer):
        with pytest.raises((CheckpointError, ConfigError)):
            read(path)
    with pytest.raises(CheckpointError):
        rsd_jax.load_model(pathlib.Path("owner/name"))
    assert not hub.asked + hub.fetched


def test_what_is_here_is_not_asked_for(hub, files):
    """Neither a folder, nor a folder that is missing beside others of its owner."""
    pathlib.Path("owner").mkdir()
    pathlib.Path("owner/name").symlink_to(files)
    assert rsd_jax.load_model("owner/name").origin is None
    for missing in ("owner/other", "owner/name@main"):
        assert hub_name(missing) is None
        with pytest.raises(CheckpointError, match=r"is not a directory.*OWNER is no folder"):
            rsd_jax.load_model(missing)
    assert not hub.asked + hub.fetched


_ANSWER = types.SimpleNamespace(headers={}, request=None, status_code=403)
_ADVICE = r"owner/name .*huggingface\.co/owner/name.*hf auth login.*HF_TOKEN.*\./owner/name"


@pytest.mark.parametrize(
    "kind", [errors.RepositoryNotFoundError, errors.GatedRepoError, errors.RevisionNotFoundError]
)
@pytest.mark.parametrize("where", ["error", "refusal"])
def test_a_refusal_says_how_to_get_the_weights(hub, kind, where):
    setattr(hub, where, kind("no\n\nfor you", response=_ANSWER))
    with pytest.raises(CheckpointError, match=_ADVICE) as caught:
        rsd_jax.load_model("owner/name")
    assert ": no for you. " in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(hub.asked) == 1
    assert len(hub.fetched) == (where == "refusal")


@pytest.mark.parametrize(
    "error", [errors.OfflineModeIsEnabled("HF_HUB_OFFLINE"), TimeoutError("timed out")]
)
def test_without_the_hub_what_was_downloaded_before_is_read(hub, error):
    hub.error = error
    assert rsd_jax.load_model("owner/name@v1").origin.name == f"owner/name@{COMMIT}"
    assert len(hub.asked) == 1
    (fetched,) = hub.fetched
    assert (fetched["revision"], fetched["local_files_only"]) == ("v1", True)


def test_without_the_hub_and_without_files_the_reason_is_that_of_the_hub(hub):
    hub.error, hub.refusal = TimeoutError("timed out"), errors.LocalEntryNotFoundError("x")
    with pytest.raises(CheckpointError, match=r"timed out.*HF_HUB_OFFLINE"):
        rsd_jax.load_model("owner/name")
    assert (len(hub.asked), len(hub.fetched)) == (1, 1)


def test_a_distillation_takes_names(hub, tmp_path):
    values = {"target_directory": "owner/name", "draft": {"model": {"vocab_size": None}}}
    assert with_target_vocabulary(values)["draft"]["model"]["vocab_size"] == TINY_CONFIG.vocab_size
    settings = Settings(target_directory="owner/name", tokenizer="other/name@v1")
    workspace = Workspace(settings, tmp_path, tmp_path)
    assert workspace.target_directory.name == COMMIT
    assert workspace.model("target").config == TINY_CONFIG
    assert workspace.chat_tokenizer.chat_template == tiny_tokenizers.CHATML
    assert "Hello" in workspace.tokenizer().decode(workspace.tokenizer().encode("Hello").ids)
    assert [(asked["name"], asked["revision"]) for asked in hub.asked] == [
        ("owner/name", None),
        ("other/name", "v1"),
    ]


def test_launchers_take_names(hub):
    pair = load_pair(PairSource(target="owner/name", draft="other/name@v1"))
    assert [pair.target.origin.name, pair.draft.origin.name] == [
        f"owner/name@{COMMIT}",
        f"other/name@{COMMIT}",
    ]
    assert pair.tokenizer.chat_template == tiny_tokenizers.CHATML
