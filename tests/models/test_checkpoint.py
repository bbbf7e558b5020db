"""Weights on disk: single file, shards, and damaged directories."""

import json
import shutil

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from rsd_jax.errors import CheckpointError, ConfigError
from rsd_jax.models.checkpoint import load_params, read_config, save_model
from rsd_jax.models.config import LlamaConfig
from rsd_jax.models.llama import LlamaModel
from tests.parity import random_params

_SIZES = dict(
    vocab_size=40,
    hidden_size=16,
    intermediate_size=24,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=4,
)
_CONFIG = LlamaConfig(**_SIZES)
_TIED = LlamaConfig(**_SIZES, tied_embeddings=True)
_SHARD = 2_000  # bytes; the tables are larger, which makes shards of one tensor
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_UP = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Directories written once: single, sharded and tied, with float32 weights."""
    root = tmp_path_factory.mktemp("saved")
    params = random_params(LlamaModel(_CONFIG))
    save_model(root / "single", _CONFIG, params, dtype="float32")
    save_model(root / "sharded", _CONFIG, params, dtype="float32", max_shard_bytes=_SHARD)
    tied = {name: value for name, value in params.items() if name != "lm_head"}
    save_model(root / "tied", _TIED, tied, dtype="float32")
    return root, params


@pytest.fixture
def copy(saved, tmp_path):
    """A function that copies one of the saved directories, to be damaged."""

    def make(kind):
        return shutil.copytree(saved[0] / kind, tmp_path / kind)

    return make


def _edit(directory, change):
    """Rewrites the single weight file after `change(tensors)`."""
    tensors = load_file(directory / _WEIGHTS)
    change(tensors)
    save_file(tensors, directory / _WEIGHTS)


def _load(directory, dtype="float32", **kwargs):
    return load_params(directory, read_config(directory), dtype=dtype, **kwargs)


def _assert_same(got, expected):
    jax.tree.map(np.testing.assert_array_equal, got, expected)


# --- round trips --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["single", "sharded"])
def test_round_trip(saved, kind):
    root, params = saved
    assert read_config(root / kind) == _CONFIG
    _assert_same(_load(root / kind), params)


def test_shards(saved):
    directory = saved[0] / "sharded"
    index = json.loads((directory / _INDEX).read_text())
    files = sorted(path.name for path in directory.glob("model*.safetensors"))
    assert files == sorted(set(index["weight_map"].values()))
    assert files[0] == f"model-00001-of-{len(files):05d}.safetensors"
    tensors = [load_file(directory / name) for name in files]
    assert all(sum(t.nbytes for t in ts.values()) <= _SHARD or len(ts) == 1 for ts in tensors)
    assert index["metadata"]["total_size"] == _CONFIG.num_parameters * 4
    assert not (directory / _WEIGHTS).exists()


@pytest.mark.parametrize("stored", ["float32", "bfloat16", "float16", "float64"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_dtypes(saved, tmp_path, stored, dtype):
    """Any stored float dtype is cast to the requested dtype."""
    _, params = saved
    save_model(tmp_path, _CONFIG, params, dtype=stored)
    loaded = _load(tmp_path, dtype)
    expected = jax.tree.map(lambda x: np.asarray(x).astype(stored).astype(dtype), params)
    _assert_same(loaded, expected)
    assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(loaded))


def test_default_is_bfloat16(saved, tmp_path):
    save_model(tmp_path, _CONFIG, saved[1])
    assert {t.dtype for t in load_file(tmp_path / _WEIGHTS).values()} == {
        np.dtype(ml_dtypes.bfloat16)
    }
    assert json.loads((tmp_path / "config.json").read_text())["torch_dtype"] == "bfloat16"


def test_float64(saved):
    with pytest.raises(ConfigError, match="enable_x64"):
        _load(saved[0] / "single", "float64")
    with jax.enable_x64(True):
        loaded = _load(saved[0] / "single", "float64")
    assert {leaf.dtype for leaf in jax.tree.leaves(loaded)} == {np.dtype("float64")}


def test_place_gets_every_tensor_once(saved):
    """The caller puts each tensor on its devices before the next one is read."""
    root, params = saved
    placed = []

    def place(path, stored):
        placed.append(path)
        return jax.device_put(stored.read(), jax.devices()[len(placed) % 2])

    loaded = _load(root / "sharded", place=place)
    _assert_same(loaded, params)
    assert len(placed) == len(set(placed)) == len(jax.tree.leaves(params))
    assert loaded["lm_head"].devices() == {jax.devices()[len(placed) % 2]}
    assert ("layers_1", "mlp", "up_proj", "kernel") in placed


def test_tied_head(copy, saved):
    """A tied model may store the head, as old versions did, if the head equals the embedding."""
    directory = copy("tied")
    table = "model.embed_tokens.weight"
    _edit(directory, lambda tensors: tensors.update({"lm_head.weight": tensors[table]}))
    loaded = _load(directory)
    assert "lm_head" not in loaded
    _assert_same(loaded["embed_tokens"], saved[1]["embed_tokens"])


@pytest.mark.parametrize("sharded", [False, True])
def test_a_tied_model_may_hold_its_head_alone(copy, saved, sharded):
    """`save_model` of safetensors keeps one name of the two, in some versions the head's."""
    directory = copy("tied")
    tensors = load_file(directory / _WEIGHTS)
    tensors["lm_head.weight"] = tensors.pop("model.embed_tokens.weight")
    (directory / _WEIGHTS).unlink()
    save_file(tensors, directory / ("a.safetensors" if sharded else _WEIGHTS), {"format": "pt"})
    if sharded:
        index = {"weight_map": dict.fromkeys(tensors, "a.safetensors")}
        (directory / _INDEX).write_text(json.dumps(index))
    loaded = _load(directory)
    assert "lm_head" not in loaded
    _assert_same(loaded["embed_tokens"], saved[1]["embed_tokens"])
    short = {"lm_head.weight": tensors["lm_head.weight"][:-1]}
    save_file(tensors | short, directory / ("a.safetensors" if sharded else _WEIGHTS))
    _refused(directory, r"lm_head\.weight in .* has shape \[39, 16\], expected \[40, 16\]")


def test_stored_frequencies_are_ignored(copy, saved):
    directory = copy("single")
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    _edit(directory, lambda tensors: tensors.update({name: np.ones(2, np.float32)}))
    _assert_same(_load(directory), saved[1])


# --- saving over something ----------------------------------------------------------------------


def test_save_replaces_an_earlier_save(copy, saved):
    """No weights of the earlier save are left; other files stay."""
    for before, limit in (("sharded", 10**9), ("single", _SHARD)):
        directory = copy(before)
        (directory / "tokenizer.json").write_text("{}")
        doubled = jax.tree.map(lambda x: 2 * x, saved[1])
        save_model(directory, _CONFIG, doubled, dtype="float32", max_shard_bytes=limit)
        _assert_same(_load(directory), doubled)
        files = {path.name for path in directory.iterdir()}
        assert "tokenizer.json" in files
        assert (_WEIGHTS in files) != (_INDEX in files)
        assert not [name for name in files if name.endswith(".partial")]


def test_failed_save_keeps_the_old_model(copy, saved, monkeypatch):
    """A disk that fills up in the second shard leaves the earlier save as it was."""
    directory, calls = copy("single"), []

    def full_disk(tensors, path, **kwargs):
        calls.append(path)
        if len(calls) == 2:
            raise OSError("No space left on device")
        save_file(tensors, path, **kwargs)

    monkeypatch.setattr("rsd_jax.models.checkpoint.save_file", full_disk)
    before = sorted(path.name for path in directory.iterdir())
    doubled = jax.tree.map(lambda x: 2 * x, saved[1])
    with pytest.raises(OSError, match="No space left"):
        save_model(directory, _CONFIG, doubled, max_shard_bytes=_SHARD)
    assert sorted(path.name for path in directory.iterdir()) == before
    _assert_same(_load(directory), saved[1])


def test_interrupted_replacement_is_refused(copy, saved, monkeypatch):
    """During a replacement there is no config.json, so mixed weights are never loaded."""
    directory = copy("sharded")

    def stop(path, target):
        raise KeyboardInterrupt

    monkeypatch.setattr("pathlib.Path.replace", stop)
    with pytest.raises(KeyboardInterrupt):
        save_model(directory, _CONFIG, saved[1], max_shard_bytes=_SHARD)
    with pytest.raises(CheckpointError, match=r"config\.json is missing"):
        read_config(directory)


def test_save_checks_its_input(saved, tmp_path):
    _, params = saved
    with pytest.raises(CheckpointError, match="do not agree on lm_head"):
        save_model(tmp_path, _TIED, params)
    wrong = params | {"norm": {"scale": jnp.ones(3)}}
    with pytest.raises(CheckpointError, match=r"norm/scale of shape \[3\], expected \[16\]"):
        save_model(tmp_path, _CONFIG, wrong)
    with pytest.raises(ConfigError, match="max_shard_bytes=0"):
        save_model(tmp_path, _CONFIG, params, max_shard_bytes=0)
    with pytest.raises(ConfigError, match="dtype='int8'"):
        save_model(tmp_path, _CONFIG, params, dtype="int8")
    assert not list(tmp_path.iterdir())


# --- damaged directories ------------------------------------------------------------------------


def _refused(directory, message):
    """Loading fails with `message` before any tensor is placed."""

    def place(path, stored):
        pytest.fail(f"{path} was read from a directory that cannot be loaded")

    with pytest.raises(CheckpointError, match=message):
        _load(directory, place=place)


def test_missing_directory(tmp_path):
    with pytest.raises(CheckpointError, match=r"llama is not a directory.*downloaded"):
        load_params(tmp_path / "meta" / "llama", _CONFIG, dtype="float32")


def test_other_directories_than_a_models_are_named(copy, saved, tmp_path):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"adapter is an adapter: give .* this as adapter"):
        read_config(adapter)
    with pytest.raises(CheckpointError, match=r"holds the models \['sharded', 'single', 'tied'\]"):
        read_config(saved[0])
    directory = copy("single")
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"hidden_act": "gelu"}))
    with pytest.raises(ConfigError, match=rf"{directory}: hidden_act='gelu'"):
        read_config(directory)


def test_no_weights(copy):
    directory = copy("single")
    (directory / _WEIGHTS).unlink()
    _refused(directory, r"neither model\.safetensors nor model\.safetensors\.index\.json; copy")
    (directory / "pytorch_model.bin").write_bytes(b"x")
    _refused(directory, r"holds pytorch_model\.bin, .*save_pretrained")


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_truncated(copy, keep):
    directory = copy("single")
    path = directory / _WEIGHTS
    path.write_bytes(path.read_bytes()[:keep])
    _refused(directory, r"model\.safetensors is truncated or not a safetensors file.*download")


def test_truncated_shard(copy):
    directory = copy("sharded")
    path = sorted(directory.glob("model-*"))[1]
    path.write_bytes(path.read_bytes()[:-7])
    _refused(directory, rf"{path.name} is truncated")


def test_git_lfs_pointer(copy):
    directory = copy("single")
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    (directory / _WEIGHTS).write_text(pointer)
    _refused(directory, "git lfs pull")


def test_missing_shard(copy):
    directory = copy("sharded")
    path = sorted(directory.glob("model-*"))[1]
    path.unlink()
    _refused(directory, rf"index\.json names files that are missing: \['{path.name}'\]")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"index\.json is not JSON"),
        ("[]", "does not hold a JSON object"),
        ("{}", "has no weight_map"),
        ('{"weight_map": {}}', "has no weight_map"),
        ('{"weight_map": {"a": "../b.safetensors"}}', r"places a in '\.\./b\.safetensors'"),
        ('{"weight_map": {"a": 3}}', "places a in 3"),
    ],
)
def test_bad_index(copy, content, message):
    directory = copy("sharded")
    (directory / _INDEX).write_text(content)
    _refused(directory, message)


def test_index_and_shard_disagree(copy):
    directory = copy("sharded")
    index = json.loads((directory / _INDEX).read_text())
    name = index["weight_map"][_UP]
    tensors = load_file(directory / name)
    del tensors[_UP]
    save_file(tensors, directory / name)
    _refused(directory, rf"{name} lacks {_UP}, which .* places there")


def test_the_index_says_which_tensors_count(copy, saved):
    """Shards may hold more: copies of other shards' tensors, and names that no model has."""
    directory = copy("sharded")
    first, *others = sorted(directory.glob("model-*"))
    copies = {name: tensor + 1 for name, tensor in load_file(first).items()}
    for path in others:
        save_file(copies | {"model.extra": np.ones(2, np.float32)} | load_file(path), path)
    _assert_same(_load(directory), saved[1])


def test_missing_tensor(copy):
    directory = copy("single")
    _edit(directory, lambda tensors: tensors.pop(_UP))
    _refused(directory, rf"lacks the tensors {_UP}; check that")


def test_missing_head(copy):
    directory = copy("single")
    _edit(directory, lambda tensors: tensors.pop("lm_head.weight"))
    _refused(directory, r"lacks the tensors lm_head\.weight; .*tie_word_embeddings to true")


def _renamed(directory, start):
    """The tensors under names that begin with `start` in place of "model."."""

    def rename(tensors):
        for name in list(tensors):
            tensors[start + name.removeprefix("model.")] = tensors.pop(name)

    _edit(directory, rename)


def test_names_of_a_model_without_a_head(copy):
    """A file saved from LlamaModel lacks the prefix, as transformers reads it too."""
    directory = copy("single")
    expected = _load(directory)
    _renamed(directory, "")
    jax.tree.map(np.testing.assert_array_equal, _load(directory), expected)


def test_names_of_another_class(copy):
    """The message shows the names in the file."""
    directory = copy("single")
    _renamed(directory, "transformer.")
    _refused(
        directory, r"lacks the tensors model\.embed.* more and holds instead transformer\.embed"
    )


def test_unexpected_tensor(copy):
    directory = copy("single")
    name = "model.layers.0.self_attn.q_proj.bias"
    _edit(directory, lambda tensors: tensors.update({name: np.zeros(16, np.float32)}))
    _refused(directory, rf"holds {name}, which .*attention_bias")


def test_more_layers_than_the_config(copy):
    directory = copy("single")
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
    _refused(directory, r"holds model\.layers\.1.*num_hidden_layers")


def test_wrong_shape(copy):
    directory = copy("single")
    _edit(directory, lambda tensors: tensors.update({_UP: np.zeros((16, 24), np.float32)}))
    _refused(directory, rf"{_UP} in .*{_WEIGHTS} has shape \[16, 24\], expected \[24, 16\]")


def test_quantised(copy):
    directory = copy("single")
    _edit(directory, lambda tensors: tensors.update({_UP: np.zeros((24, 16), np.int8)}))
    _refused(directory, rf"{_UP} in .* is I8; only .* quantised weights")


def test_tied_head_that_differs(copy):
    directory = copy("tied")
    head = {"lm_head.weight": np.ones((40, 16), np.float32)}
    _edit(directory, lambda tensors: tensors.update(head))
    _refused(directory, r"lm_head\.weight in .* differs from .*tie_word_embeddings to false")


@pytest.mark.parametrize("dtype", ["int32", "float31", None, "bool"])
def test_bad_dtype(saved, dtype):
    with pytest.raises(ConfigError, match=f"dtype={dtype!r} cannot hold weights"):
        _load(saved[0] / "single", dtype)
