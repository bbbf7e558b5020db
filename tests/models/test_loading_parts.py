"""Weights are read by parts: what devices hold is right, and nothing else is read."""

import dataclasses
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rsd_jax
from rsd_jax.core.sharding import MeshLayout
from rsd_jax.models import stored_parameter
from rsd_jax.models.checkpoint import load_params, read_config, save_model
from rsd_jax.models.config import LlamaConfig
from rsd_jax.models.kv_heads import read_kv_copies, with_kv_copies
from rsd_jax.models.llama import LlamaModel
from tests.parity import random_params

_CONFIG = LlamaConfig(
    vocab_size=40,
    hidden_size=16,
    intermediate_size=24,
    num_layers=1,
    num_heads=8,
    num_kv_heads=2,
    head_dim=4,
)
_UP = ("layers_0", "mlp", "up_proj", "kernel")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Three shards and more, in bfloat16."""
    path = tmp_path_factory.mktemp("model")
    params = random_params(LlamaModel(_CONFIG))
    save_model(path, _CONFIG, params, dtype="bfloat16", max_shard_bytes=2000)
    return path


@pytest.mark.parametrize("piece", [1, 500, 1 << 24])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_parts_of_any_place(directory, monkeypatch, piece, dtype):
    monkeypatch.setattr(stored_parameter, "_PIECE", piece)
    seen = []

    def place(path, stored):
        whole, spans = stored.read(), [(0, size // 2, size) for size in stored.shape]
        assert whole.shape == stored.shape
        cuts = [itertools.pairwise(span) for span in spans]
        for index in itertools.product(*(tuple(slice(*cut) for cut in each) for each in cuts)):
            part = stored.read(index, np.float32)
            assert part.dtype == np.float32
            assert part.flags.c_contiguous
            np.testing.assert_array_equal(part, whole[index].astype(np.float32))
        seen.append(path)
        return whole

    params = load_params(directory, _CONFIG, dtype=dtype, place=place)
    expected = load_params(directory, _CONFIG, dtype=dtype)
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    assert _UP in seen


def test_values_are_rounded_before_they_are_widened(tmp_path):
    params = jax.tree.map(lambda leaf: leaf + 1e-3, random_params(LlamaModel(_CONFIG)))
    save_model(tmp_path, _CONFIG, params, dtype="float32")
    loaded = rsd_jax.load_model(tmp_path, dtype="bfloat16", compute_dtype="float32").params
    rounded = jax.tree.map(lambda x: np.asarray(x).astype(jnp.bfloat16).astype(np.float32), params)
    jax.tree.map(np.testing.assert_array_equal, loaded, rounded)


@pytest.mark.parametrize("shape", [(1, 2), (2, 4), (8, 1)])
def test_every_device_gets_its_part(directory, shape):
    """Also where an axis of 4 devices splits 2 key/value heads, of which each device has a copy."""
    mesh = jax.make_mesh(shape, ("data", "model"), devices=jax.devices()[: shape[0] * shape[1]])
    loaded, whole = rsd_jax.load_model(directory, mesh=mesh), rsd_jax.load_model(directory)
    kernel = loaded.params["layers_0"]["mlp"]["up_proj"]["kernel"]
    assert kernel.sharding.shard_shape(kernel.shape) == (16, 24 // shape[1])
    tokens = jnp.asarray([[1, 2, 3, 4]], jnp.int32)
    found = [jax.jit(each.model.score)(each.params, tokens) for each in (loaded, whole)]
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)
    flat = jax.tree_util.tree_leaves_with_path(whole.params)
    for (_, ours), (path, theirs) in zip(
        jax.tree_util.tree_leaves_with_path(loaded.params), flat, strict=True
    ):
        if ours.shape == theirs.shape:
            np.testing.assert_array_equal(ours, theirs, str(path))


class _Meter:
    """A file that counts the numbers that are read from it."""

    def __init__(self, file, reads):
        self._file, self._reads = file, reads

    def get_slice(self, name):
        source, reads = self._file.get_slice(name), self._reads

        class Source:
            def __getitem__(self, index):
                found = source[index]
                reads[name] = reads.get(name, 0) + found.size
                return found

        return Source()


def test_only_what_devices_hold_is_read(directory):
    """Of a mesh of 2 x 4 with half of its columns here, half of a split tensor is read, once."""
    layout = MeshLayout.of(jax.make_mesh((2, 4), ("data", "model")))
    reads: dict[str, int] = {}
    addressable = {d for d in layout.mesh.devices[:, :2].flat}

    class Here:
        """The part of a sharding that a process of half of the devices sees."""

        def __init__(self, sharding):
            self._sharding = sharding

        def addressable_devices_indices_map(self, shape):
            found = self._sharding.devices_indices_map(shape)
            return {device: index for device, index in found.items() if device in addressable}

    def place(path, stored):
        stored = dataclasses.replace(
            stored, place=stored.place._replace(file=_Meter(stored.place.file, reads))
        )
        if path != _UP:
            return None
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("rsd_jax.core.sharding.NamedSharding", lambda *args: Here(_named(*args)))
            patch.setattr("jax.make_array_from_single_device_arrays", lambda *args: args)
            shape, _, shards = layout.place_parts(
                stored.read, stored.shape, ("embed", "mlp"), (16, 24)
            )
        assert shape == (16, 24)
        assert [shard.shape for shard in shards] == [(16, 6)] * 4
        return None

    _named = jax.sharding.NamedSharding
    load_params(directory, read_config(directory), dtype="float32", place=place)
    assert reads == {"model.layers.0.mlp.up_proj.weight": 16 * 12}


@pytest.mark.parametrize("copies", [1, 2, 3])
def test_parts_of_copied_heads(copies):
    """Any part of a parameter with copies, and no head is read that the part has no copy of."""
    whole = np.arange(5 * 12, dtype=np.float32).reshape(5, 12)
    axes, read_widths = (("embed", "kv_heads"), (5, 3)), []

    def read(index):
        read_widths.append(whole[index].shape[1])
        return whole[index]

    expected = with_kv_copies(whole, axes, copies)
    parts, shape = read_kv_copies(read, whole.shape, axes, copies)
    assert shape == expected.shape
    for start, stop in itertools.combinations(range(0, shape[1] + 1, 2), 2):
        index = (slice(1, 4), slice(start, stop))
        np.testing.assert_array_equal(parts(index), expected[index])
    assert parts((slice(0, 5), slice(0, 4))).shape == (5, 4)
    assert read_widths[-1] == 4


def test_parts_of_an_adapted_kernel(directory, tmp_path):
    from rsd_jax.models.adapter import save_adapter

    rng = np.random.default_rng(0)
    factors = {_UP: (rng.normal(size=(16, 2)), rng.normal(size=(2, 24)))}
    save_adapter(tmp_path, _CONFIG, factors, base="x")
    mesh = jax.make_mesh((2, 4), ("data", "model"))
    split, whole = (
        rsd_jax.load_model(directory, adapter=tmp_path, mesh=each).params["layers_0"]["mlp"]
        for each in (mesh, None)
    )
    plain = rsd_jax.load_model(directory).params["layers_0"]["mlp"]
    for ours, theirs in zip(jax.tree.leaves(split), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    changed = np.abs(whole["up_proj"]["kernel"] - plain["up_proj"]["kernel"])
    assert changed.max() > 0.5


def test_a_bar_only_when_asked(directory, monkeypatch):
    said = []

    def bar(items, **options):
        said.append(options)
        return items

    monkeypatch.setattr("tqdm.tqdm", bar)
    rsd_jax.load_model(directory)
    assert said == []
    rsd_jax.load_model(directory, progress=True)
    assert said[0]["desc"] == f"loading {directory.name}"
    assert said[0]["disable"] is None  # no bar in a file or a pipe


def test_a_shard_of_another_dtype_or_shape_is_named(directory, tmp_path):
    import shutil

    from safetensors.numpy import load_file, save_file

    name = "model.layers.0.mlp.up_proj.weight"
    shard = json.loads((directory / "model.safetensors.index.json").read_text())["weight_map"][name]
    for value, message in (
        (np.zeros((24, 16), np.int8), rf"{name} in .*{shard} is I8"),
        (np.zeros((24, 15), np.float32), rf"{name} in .*{shard} has shape \[24, 15\]"),
    ):
        copy = shutil.copytree(directory, tmp_path / value.dtype.name)
        save_file(load_file(copy / shard) | {name: value}, copy / shard)
        with pytest.raises(rsd_jax.CheckpointError, match=message):
            rsd_jax.load_model(copy, mesh=jax.make_mesh((2, 2), ("data", "model")))
