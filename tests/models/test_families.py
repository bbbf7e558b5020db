"""The table of families, properties of models, and choices that depend on a model's devices."""

import dataclasses
import json
import types

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rsd_jax
from rsd_jax.core.backend import ACCELERATOR, CPU, CPU_MESH, backend_of
from rsd_jax.core.sharding import MeshLayout, make_mesh
from rsd_jax.core.types import sizes_of
from rsd_jax.engine import phases
from rsd_jax.engine.job import prepare, start
from rsd_jax.engine.request import Request
from rsd_jax.errors import ConfigError
from rsd_jax.evaluation.floors import decode_floor, kept_fraction
from rsd_jax.models import loading
from rsd_jax.models.checkpoint import read_config
from rsd_jax.models.families import FAMILIES, family_of
from rsd_jax.models.llama import LlamaModel
from rsd_jax.testing.table_model import TableModel, table_rows
from rsd_jax.testing.tiny_llama import TINY_CONFIG, tiny_pair


def test_a_family_agrees_with_its_network():
    family = family_of(TINY_CONFIG)
    assert family is FAMILIES["llama"]
    shapes = {spec.path: spec.shape for spec in family.tensors(TINY_CONFIG).values()}
    made = jax.eval_shape(LlamaModel(TINY_CONFIG).init_params, jax.random.key(0))
    made = flax.traverse_util.flatten_dict(made)
    assert shapes == {path: leaf.shape for path, leaf in made.items()}
    for path, shape in shapes.items():
        axes, units = family.axes(TINY_CONFIG, path)
        assert len(axes) == len(units) == len(shape)
    assert family.read_config(family.write_config(TINY_CONFIG)) == TINY_CONFIG


def test_an_unknown_family_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mamba"}))
    with pytest.raises(ConfigError, match=r"model_type='mamba' .* supported: \['llama'"):
        read_config(tmp_path)


def _mesh_of(*platforms):
    """A layout of devices that this process does not have."""
    devices = np.asarray([types.SimpleNamespace(platform=name) for name in platforms])
    return types.SimpleNamespace(mesh=types.SimpleNamespace(devices=devices))


def test_choices_follow_the_devices_of_the_model(monkeypatch):
    for other, own in (("cpu", ACCELERATOR), ("gpu", CPU)):
        monkeypatch.setattr(jax, "default_backend", lambda other=other: other)
        elsewhere = _mesh_of("tpu", "tpu") if own is ACCELERATOR else _mesh_of("cpu")
        assert backend_of(elsewhere) is own
        model = loading.build_model(TINY_CONFIG, dtype="float32", layout=elsewhere)
        assert model.backend is own
    assert backend_of(None) is CPU
    assert backend_of(MeshLayout.of(jax.make_mesh((1, 1), ("data", "model")))) is CPU
    assert backend_of(MeshLayout.of(jax.make_mesh((2, 1), ("data", "model")))) is CPU_MESH


def test_a_verifier_tests_as_the_target_s_devices_want():
    """Compiled on CPUs, a program for an accelerator has no loop that depends on the data."""
    target, draft = tiny_pair()
    method = rsd_jax.build_method("rsd_s", width=2, length=2)
    loops = {}
    for backend in (CPU, ACCELERATOR):
        pair = [
            dataclasses.replace(loaded, model=dataclasses.replace(loaded.model, backend=backend))
            for loaded in (target, draft)
        ]
        job = prepare(method, *pair, Request.of([[1, 2, 3]], max_new_tokens=4))

        def scored(job=job):
            state = start(job, job.batches[0])
            tree, state = phases.draft(job.engine, job.params, state, job.options)
            return (*phases.score(job.engine, job.params, state, tree)[::-1], tree)

        def verify(state, logits, tree, job=job):
            return phases.verify(job.engine, state, tree, logits, job.options)

        loops[backend] = str(jax.make_jaxpr(verify)(*jax.eval_shape(scored))).count("while[")
    assert loops[CPU] > 0
    assert loops[ACCELERATOR] == 0


def test_a_model_without_sizes_says_so():
    model = TableModel()
    assert model.sizes is None
    for ask in (
        lambda: sizes_of(model),
        lambda: kept_fraction(model, (1, 0)),
        lambda: decode_floor(model, batch=1, context=1, bandwidth=1.0),
    ):
        with pytest.raises(ConfigError, match=r"TableModel has no sizes.* load_model"):
            ask()


def test_any_model_scores_whole_sequences():
    model = TableModel()
    params = model.init_params(jax.random.key(0))
    tokens = jnp.asarray([[1, 0, 2, 2], [2, 1, 1, 0]], jnp.int32)
    tables = np.asarray(params["tables"]).sum(axis=(0, 1))
    for row, logits in zip(tokens.tolist(), model.score(params, tokens), strict=True):
        expected = tables[table_rows(model, [row[: i + 1] for i in range(4)])]
        np.testing.assert_allclose(logits, expected, atol=1e-6)


def test_another_limit_on_positions_is_the_same_model():
    for model in (TableModel(), LlamaModel(TINY_CONFIG)):
        longer = model.with_max_positions(99)
        assert longer.max_positions == 99
        assert longer.with_max_positions(model.max_positions) == model


def test_a_mesh_of_a_configuration():
    assert make_mesh([]) is None
    assert make_mesh([4, 2]) == make_mesh(["4", "2"]) == jax.make_mesh((4, 2), ("data", "model"))
    with_fsdp = make_mesh([2, 2, 2])
    assert with_fsdp.axis_names == ("data", "fsdp", "model")
    for sizes in (["x", "2"], [2], [2, 0], [1, 2, 3, 4]):
        with pytest.raises(ConfigError, match=r"must be two numbers of at least 1, .* or three"):
            make_mesh(sizes)
    with pytest.raises(ConfigError, match=r"mesh=1024,2 needs 2048 devices, but there are 8 \(cpu"):
        make_mesh([1024, 2])


def test_a_layout_for_decoding_has_the_devices_of_fsdp_in_data():
    mesh = make_mesh([2, 2, 2])
    for axes in (mesh.axis_names, ("fsdp", "model", "data")):
        places = [mesh.axis_names.index(name) for name in axes]
        given = jax.sharding.Mesh(mesh.devices.transpose(places), axes)
        decoding, training = MeshLayout.of(given), MeshLayout.of(given, training=True)
        assert dict(decoding.mesh.shape) == {"data": 4, "model": 2}
        assert dict(training.mesh.shape) == {"data": 2, "fsdp": 2, "model": 2}
        order = list(mesh.devices.flat)
        assert list(decoding.mesh.devices.flat) == list(training.mesh.devices.flat) == order
        assert (decoding.fsdp_shards, training.fsdp_shards) == (1, 2)
