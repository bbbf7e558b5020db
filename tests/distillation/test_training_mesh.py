"""A training step on a mesh, in parts or with recomputed layers is the plain step."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from rsd_jax.core.sharding import MeshLayout, make_mesh
from rsd_jax.distillation.evaluate import evaluate
from rsd_jax.distillation.settings import TrainingSettings
from rsd_jax.distillation.training.checkpoints import Checkpoints
from rsd_jax.distillation.training.step import Batch, abstract_state, train_step
from rsd_jax.distillation.training.train import train
from rsd_jax.errors import ConfigError
from rsd_jax.models.config import LlamaConfig
from rsd_jax.models.llama import LlamaModel

pytestmark = [
    pytest.mark.standard_promotion,  # optax
    pytest.mark.skipif(jax.device_count() < 8, reason="needs eight devices"),
]

_MODEL = LlamaModel(
    LlamaConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=24,
        num_layers=1,
        num_heads=4,
        num_kv_heads=2,
        head_dim=8,
        tied_embeddings=True,
    )
)
_RECIPES = {
    optimizer: TrainingSettings(
        objective="forward_kl",
        optimizer=optimizer,
        steps=3,
        batch_size=8,
        window=6,
        warmup_steps=1,
        learning_rate=1e-2,
        log_every=3,
    )
    for optimizer in ("adamw", "muon")
}
_TEXT = np.random.default_rng(0).integers(2, 32, 200).astype(np.uint16)


@pytest.fixture(scope="module")
def train_three(tmp_path_factory):
    """Trains three steps, once per recipe and mesh; gives the last state and the directory."""
    teacher = _MODEL, _MODEL.init_params(jax.random.key(7))

    @functools.cache
    def run(recipe, shape=None):
        mesh = make_mesh(shape or ())
        directory = tmp_path_factory.mktemp("run")
        with jax.numpy_dtype_promotion("standard"):
            return train(_MODEL, recipe, _TEXT, directory, teacher=teacher, mesh=mesh), directory

    return run


def _assert_close(state, other):
    start = _MODEL.init_params(jax.random.key(0))

    def close(one, two, before):
        assert np.abs(one - before).max() > 5e-3  # It was trained at all.
        np.testing.assert_allclose(one, two, atol=2e-5)

    jax.tree.map(close, *map(jax.device_get, (state.params, other.params, start)))


@pytest.mark.parametrize("changes", [{"accumulate": 4}, {"remat": True}], ids=str)
def test_memory_is_saved_without_changing_the_step(changes, train_three):
    recipe = _RECIPES["adamw"]
    changed, _ = train_three(dataclasses.replace(recipe, **changes))
    _assert_close(changed, train_three(recipe)[0])


def test_layers_are_recomputed():
    """Checked in the lowered program, as the compiled program depends on the device."""
    products = []
    for remat in (False, True):
        recipe = dataclasses.replace(_RECIPES["adamw"], objective="cross_entropy", remat=remat)
        state = abstract_state(_MODEL, recipe)
        batch = Batch(jax.ShapeDtypeStruct((8, 7), np.int32))
        lowered = train_step.lower(_MODEL, None, recipe, None, state, None, batch)
        products.append(lowered.as_text().count("dot_general"))
    # Projections of attention, scores, mix, gate and up; the last product of a layer is not
    # needed for its gradient.
    assert products[1] - products[0] == 8


@pytest.mark.parametrize(
    ("optimizer", "changes"),
    [("adamw", {}), ("muon", {"accumulate": 2, "remat": True})],
    ids=["adamw", "muon in parts"],
)
def test_a_mesh_trains_as_one_device(optimizer, changes, train_three):
    """Four data by two model shards; nothing wide is whole on a device, no step recompiles."""
    recipe = _RECIPES[optimizer]
    plain, _ = train_three(recipe)
    programs = train_step._cache_size()
    state, directory = train_three(dataclasses.replace(recipe, **changes), (4, 2))
    assert train_step._cache_size() == programs + 1
    _assert_close(state, plain)

    sharded = [leaf for leaf in jax.tree.leaves(state) if leaf.ndim == 2]
    assert len(sharded) >= 2 * len(
        [leaf for leaf in jax.tree.leaves(state.params) if leaf.ndim == 2]
    )
    assert all(np.prod(leaf.sharding.shard_shape(leaf.shape)) == leaf.size / 2 for leaf in sharded)

    with_layout = MeshLayout.of(jax.make_mesh((2, 2), ("data", "model")))
    checkpoints = Checkpoints(directory / "checkpoints")
    for layout in (None, with_layout):
        step, restored = checkpoints.restore(abstract_state(_MODEL, recipe, layout))
        assert step == 3
        jax.tree.map(np.testing.assert_array_equal, *map(jax.device_get, (restored, state)))
    checkpoints.close()


@pytest.mark.parametrize("accumulate", [1, 2])
def test_fsdp_trains_as_one_device(accumulate, train_three):
    """Two by two by two: every matrix and its moments are split over four devices."""
    recipe = dataclasses.replace(_RECIPES["adamw"], accumulate=accumulate)
    state, directory = train_three(recipe, (2, 2, 2))
    _assert_close(state, train_three(_RECIPES["adamw"])[0])
    sharded = [leaf for leaf in jax.tree.leaves(state) if leaf.ndim == 2]
    assert all(np.prod(leaf.sharding.shard_shape(leaf.shape)) == leaf.size / 4 for leaf in sharded)

    windows = _TEXT[:56].reshape(8, 7).astype(np.int32)
    layout = MeshLayout.of(make_mesh((2, 2, 2)))
    measured = evaluate(_MODEL, state.params, windows, layout=layout)
    expected = evaluate(_MODEL, jax.device_get(state.params), windows)
    assert measured == pytest.approx(expected, rel=1e-4)

    checkpoints = Checkpoints(directory / "checkpoints")
    _, restored = checkpoints.restore(abstract_state(_MODEL, recipe, layout))
    checkpoints.close()
    jax.tree.map(np.testing.assert_array_equal, *map(jax.device_get, (restored, state)))


def test_fsdp_splits_rows_gathers_parameters_and_scatters_gradients():
    """In the compiled step, no device has the logits of more than its rows."""
    layout = MeshLayout.of(make_mesh((2, 2, 2)), training=True)
    recipe = dataclasses.replace(_RECIPES["adamw"], objective="cross_entropy")
    state = abstract_state(_MODEL, recipe, layout)
    rows = jax.sharding.NamedSharding(layout.mesh, layout.rows_spec(2))
    batch = Batch(jax.ShapeDtypeStruct((8, 7), np.int32, sharding=rows))
    text = train_step.lower(_MODEL, None, recipe, layout, state, None, batch).compile().as_text()
    assert "f32[2,6,16]" in text  # 8 rows over data and fsdp: logits [2, 6, 32], by halves
    assert "f32[4,6,16]" not in text
    assert "f32[4,6,32]" not in text
    assert "all-gather" in text
    assert "reduce-scatter" in text


def test_evaluation_on_a_mesh(train_three):
    state, _ = train_three(_RECIPES["adamw"])
    on_mesh, _ = train_three(_RECIPES["adamw"], (4, 2))
    windows = _TEXT[:56].reshape(8, 7).astype(np.int32)
    layout = MeshLayout.of(jax.make_mesh((4, 2), ("data", "model")))
    expected = evaluate(_MODEL, state.params, windows)
    measured = evaluate(_MODEL, on_mesh.params, windows, layout=layout)
    assert measured == pytest.approx(expected, rel=1e-4)


def test_a_batch_that_cannot_be_split(tmp_path):
    with pytest.raises(ConfigError, match="batch_size=8 must be a multiple of accumulate=3"):
        TrainingSettings(steps=1, batch_size=8, accumulate=3)
    recipe = TrainingSettings(steps=1, batch_size=8, accumulate=4)
    mesh = jax.make_mesh((4, 2), ("data", "model"))
    with pytest.raises(ConfigError, match="must be a multiple of 16: 4 data shards"):
        train(_MODEL, recipe, _TEXT, tmp_path, mesh=mesh)
    plain = dataclasses.replace(recipe, objective="cross_entropy", accumulate=1)
    with pytest.raises(ConfigError, match=r"'model' has 4 devices.* Sizes .* that fit: 1, 2\.$"):
        train(_MODEL, plain, _TEXT, tmp_path, mesh=make_mesh((2, 4)))
