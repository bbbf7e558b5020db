"""Meshes of eight devices give the tokens of one device, without gathering weights or caches."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rsd_jax
from rsd_jax.core import sharding
from rsd_jax.core.identity import search_identity
from rsd_jax.core.sharding import MeshLayout
from rsd_jax.engine import phase_programs
from rsd_jax.engine.decoding import UNLIMITED, advance
from rsd_jax.engine.job import prepare, start
from rsd_jax.engine.methods import lossless_verifiers
from rsd_jax.engine.request import Request
from rsd_jax.evaluation.expected import expected_run
from rsd_jax.evaluation.tpu.findings import read_program
from rsd_jax.models.checkpoint import save_model
from rsd_jax.models.config import LlamaConfig
from rsd_jax.models.qwen import Qwen2Config
from rsd_jax.search import SearchConfig, SearchState, driver
from rsd_jax.search.driver import search_through
from rsd_jax.search.matchness import read_matchness
from rsd_jax.testing.tiny_llama import mixed_params, tiny_params
from tests import joint_law
from tests.compile_meter import compilations
from tests.joint_law import METHODS

MESHES = [(8, 1), (4, 2), (2, 4), (1, 8)]
# Four key/value heads: model axes of 2 and 4 split them, an axis of 8 holds two copies of each.
CONFIG = LlamaConfig(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=64,
    num_layers=1,
    num_heads=8,
    num_kv_heads=4,
    head_dim=8,
    max_positions=512,
)
PROMPTS = [list(range(1, 1 + length)) for length in (1, 2, 5, 9, 20, 31, 3)]  # one row of padding
NEW_TOKENS = 16
COLLECTIVES = ("all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter")

pytestmark = pytest.mark.skipif(jax.device_count() < 8, reason="needs eight devices")


@pytest.fixture(scope="module")
def directories(tmp_path_factory):
    root = tmp_path_factory.mktemp("pair")
    target = tiny_params(0, CONFIG)
    draft = mixed_params(target, tiny_params(1, CONFIG), 0.15)
    for name, params in (("target", target), ("draft", draft)):
        save_model(root / name, CONFIG, params, dtype="float32")
    return root / "target", root / "draft"


def _pair(directories, shape, *, replicate_draft=False):
    mesh = None if shape is None else jax.make_mesh(shape, ("data", "model"))
    target, draft = directories
    return [
        rsd_jax.load_model(target, mesh=mesh),
        rsd_jax.load_model(draft, mesh=mesh, replicated=replicate_draft),
    ]


@pytest.fixture(scope="module")
def one_device(directories):
    """Tokens and block counts of one device, by method."""
    pair = _pair(directories, None)
    return {name: _decode(name, pair)[0] for name in _METHODS}


def _decode(method, pair, sampling=None, **options):
    """(tokens and blocks, text of the loop, job, state), from one compilation."""
    built = joint_law.method(method, **options)
    skips = joint_law.skips(built, CONFIG.num_layers)
    sampling = {"temperature": 0.7} | (sampling or {})
    job = prepare(built, *pair, Request.of(PROMPTS, max_new_tokens=NEW_TOKENS, **sampling, **skips))
    state = start(job, job.batches[0])
    arguments = (job.params, state, job.options, *jnp.full((2,), UNLIMITED))
    loop = advance.lower(job.engine, *arguments).compile()
    end = loop(*arguments)
    rows = range(len(PROMPTS))
    tokens = [end.tokens[row, len(PROMPTS[row]) : int(end.end[row])].tolist() for row in rows]
    return (tokens, end.stats.blocks.tolist()), loop.as_text(), job, end


# `static` draws its slots as `rsd_c` does, and `mixed_beam` as `dyspec`. All others on both axes;
# one of each kind of drafter also on the data axis; some on the model axis, and on a second mesh.
_METHODS = [name for name in METHODS if name not in ("static", "mixed_beam")]
_SOME = ("rsd_s", "swift")
_KINDS = (*_SOME, "ar", "lookup", "dyspec", "rsd_c+2")
_CASES = [
    pytest.param(method, shape, id=f"{method}-{'x'.join(map(str, shape))}")
    for method in _METHODS
    for shape in MESHES
    if shape == (2, 4) or method in (_KINDS if shape == (8, 1) else _SOME)
]


@pytest.mark.parametrize(("method", "shape"), _CASES)
def test_same_tokens_as_one_device(method, shape, directories, one_device):
    decoded, text, job, state = _decode(method, _pair(directories, shape))
    assert decoded[1][: len(PROMPTS)] == one_device[method][1][: len(PROMPTS)]
    assert decoded[0] == one_device[method][0]
    if shape == (8, 1):
        assert not _collectives(text)
    assert not _gathered(text, job, state, shape)


@pytest.mark.parametrize(
    ("method", "shape"),
    [("sd", (2, 4)), ("spectr", (2, 4)), ("rsd_c", (2, 4)), ("rsd_s", (2, 4)), ("rsd_s", (1, 8))],
    ids=str,
)
def test_a_replicated_draft(method, shape, directories, one_device):
    """The same tokens, and no collective in the draft phase; the target is split as before."""
    pair = _pair(directories, shape, replicate_draft=True)
    decoded, text, job, state = _decode(method, pair)
    assert decoded[1][: len(PROMPTS)] == one_device[method][1][: len(PROMPTS)]
    assert decoded[0] == one_device[method][0]
    assert not _gathered(text, job, state, shape)
    counts = read_program(text, caches=[], whole=[], rows=1).collectives
    phases = {name.split()[0] for name in counts}
    assert "score" in phases
    assert "draft" not in phases
    keys = state.drafter.cache.keys[0]
    rows = keys.shape[0] // shape[0]
    assert keys.sharding.shard_shape(keys.shape) == (rows, *keys.shape[1:])
    for leaf in jax.tree.leaves(job.params.draft):
        assert leaf.sharding.is_fully_replicated


def test_the_draft_phase_alone_with_a_replicated_draft(directories):
    """A phase that is a program of its own is not mapped over rows."""
    built = rsd_jax.build_method("sd", **METHODS["sd"])
    request = Request.of(PROMPTS, max_new_tokens=NEW_TOKENS, temperature=0.7)
    tokens = []
    for shape in (None, (2, 4)):
        job = prepare(built, *_pair(directories, shape, replicate_draft=True), request)
        state = start(job, job.batches[0])
        tree, _ = phase_programs.draft(job.engine, job.params, state, job.options)
        tokens.append(np.asarray(tree.tokens)[: len(PROMPTS)])
    np.testing.assert_array_equal(*tokens)


def test_a_split_draft_has_collectives(directories):
    """What the test above counts is there without `replicated`."""
    _, text, _, _ = _decode("sd", _pair(directories, (2, 4)))
    found = read_program(text, caches=[], whole=[], rows=1).collectives
    assert found["draft all-reduce"] >= 2 * METHODS["sd"]["length"]


def _counts(method, pair, sampling=None):
    """Tokens and blocks, and the collectives of a block by phase and kind."""
    decoded, text, _, _ = _decode(method, pair, sampling)
    return decoded, read_program(text, caches=[], whole=[], rows=1).collectives


def _gathered_once(method):
    """The collectives of a block in which nothing is reduced over the vocabulary.

    One gather for each pass is left, and what sub-layers need.
    """
    length, layers = METHODS[method]["length"], CONFIG.num_layers
    return {
        "draft all-gather": length,
        "draft all-reduce": 2 * layers * length,
        "score all-gather": 1,
        "score all-reduce": 2 * layers,
    }


def test_logits_are_gathered_once(directories):
    _, counts = _counts("spectr", _pair(directories, (2, 4)))
    assert counts == _gathered_once("spectr")


def test_filters_do_not_reduce_over_the_vocabulary(directories, monkeypatch):
    """With the gathering turned off on purpose they do, and the count shows it."""
    pair, sampling = _pair(directories, (2, 4)), {"top_k": 20, "top_p": 0.9}
    decoded, counts = _counts("sd", pair, sampling)
    assert counts == _gathered_once("sd")
    monkeypatch.setattr(sharding, "_GATHERED_BYTES", 0)
    jax.clear_caches()
    split, before = _counts("sd", pair, sampling)
    monkeypatch.undo()
    jax.clear_caches()
    assert split == decoded
    assert before["verify all-reduce"] >= 2 * 31  # bisections of top-k and of top-p


@pytest.mark.parametrize("shape", [(4, 2), (1, 8)], ids=lambda shape: "x".join(map(str, shape)))
def test_coupling_decides_as_on_one_device(shape, directories):
    ours, other = (
        _decode("rsd_s", _pair(directories, on), verifier="coupling")[0] for on in (None, shape)
    )
    assert ours[0] == other[0]
    assert ours[1][: len(PROMPTS)] == other[1][: len(PROMPTS)]


def test_expected_tokens_are_those_of_one_device(directories):
    method = rsd_jax.build_method("rsd_c", branching=(2, 1))
    request = Request.of(PROMPTS, max_new_tokens=NEW_TOKENS, temperature=0.7)
    one, mesh = (
        expected_run(
            prepare(method, *_pair(directories, on), request),
            lossless_verifiers(method),
            optimum_blocks=2,
        )
        for on in (None, (4, 2))
    )
    assert one.result.tokens == mesh.result.tokens
    for name, sums in one.sums.items():
        np.testing.assert_allclose(mesh.sums[name], sums, rtol=1e-4)
        here, there = (run.roots.acceptance[name] for run in (one, mesh))
        np.testing.assert_allclose(there, here, atol=1e-4)
    np.testing.assert_allclose(mesh.roots.optimum, one.roots.optimum, atol=1e-4)


def test_records_are_those_of_one_device(directories):
    method, options = rsd_jax.build_method("rsd_c", branching=(2, 1)), {"temperature": 0.7}
    options |= {"max_new_tokens": NEW_TOKENS, "record_blocks": True}
    one, mesh = (
        rsd_jax.generate(method, *_pair(directories, on), PROMPTS, **options)
        for on in (None, (4, 2))
    )
    assert one.tokens == mesh.tokens
    for here, there in zip(one.block_records, mesh.block_records, strict=True):
        assert [record.answer for record in here] == [record.answer for record in there]
        for ours, theirs in zip(here, there, strict=True):
            assert ours.tokens.tolist() == theirs.tokens.tolist()
            assert ours.path.tolist() == theirs.path.tolist()
            for probs in ("draft_probs", "drawn_probs", "target_probs"):
                expected = getattr(ours, probs)
                np.testing.assert_allclose(getattr(theirs, probs), expected, atol=1e-4)


def test_the_check_sees_a_gathered_cache(directories, monkeypatch):
    """The check detects sharded caches that the loop gathers."""
    place = MeshLayout.place_buffers

    def whole_in_the_loop(self, state, *, within_rows=False):
        if not within_rows:
            return place(self, state)
        whole = jax.sharding.PartitionSpec()
        return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, whole), state)

    monkeypatch.setattr(MeshLayout, "place_buffers", whole_in_the_loop)
    jax.clear_caches()
    _, text, job, state = _decode("ar", _pair(directories, (2, 4)))
    monkeypatch.undo()
    jax.clear_caches()
    assert _gathered(text, job, state, (2, 4))


@pytest.mark.parametrize(("shape", "batch_size"), [((2, 4), 3), ((1, 8), 2)], ids=str)
def test_rows_are_refilled_on_a_mesh(shape, batch_size, directories, one_device):
    """Seven prompts in four rows on two data shards, and in two rows on one."""
    method = rsd_jax.build_method("rsd_s", **METHODS["rsd_s"])
    target, draft = _pair(directories, shape)
    options = {"max_new_tokens": NEW_TOKENS, "temperature": 0.7}
    result = rsd_jax.generate(method, target, draft, PROMPTS, batch_size=batch_size, **options)
    assert result.tokens == one_device["rsd_s"][0]
    assert result.stats.blocks.tolist() == one_device["rsd_s"][1][: len(PROMPTS)]


def test_generate_on_a_mesh_as_users_call_it(directories, one_device):
    pair = _pair(directories, (4, 2))
    method = rsd_jax.build_method("sd", **METHODS["sd"])
    result = rsd_jax.generate(method, *pair, PROMPTS, max_new_tokens=NEW_TOKENS, temperature=0.7)
    assert result.tokens == one_device["sd"][0]


@pytest.fixture(scope="module")
def layered(tmp_path_factory):
    """A target with four sub-layers that a search may skip."""
    directory = tmp_path_factory.mktemp("layered")
    config = dataclasses.replace(CONFIG, num_layers=4)
    save_model(directory, config, tiny_params(0, config), dtype="float32")
    return directory


def _search(method, target):
    """A search while decoding, and the programs compiled after the first candidate."""
    config = SearchConfig(ratio=0.5, context=4, bayes_every=10**6, max_score=1.0)
    job = prepare(
        method, target, None, Request.of(PROMPTS, max_new_tokens=NEW_TOKENS, temperature=0.7)
    )
    compiled = []

    def watched(*arguments):
        compiled.append(len(programs))
        return driver.advance(*arguments)

    with compilations() as programs:
        run = search_through(job, SearchState.new(target, config), watched)
    return run, programs[compiled[1] :]


def _on_two_by_two(directory):
    mesh = jax.make_mesh((2, 2), ("data", "model"), devices=jax.devices()[:4])
    return rsd_jax.load_model(directory, mesh=mesh)


# One width and one level: fewer passes to compile.
SEARCHED = {"swift": METHODS["swift"] | {"widths": (8,)}, "self_rsd_c": {"branching": (2,)}}


@pytest.mark.parametrize("name", ["swift"])
def test_a_search_on_a_mesh_finds_the_set_of_one_device(name, layered):
    method = rsd_jax.build_method(name, **SEARCHED[name])
    expected, _ = _search(method, rsd_jax.load_model(layered))
    run, compiled = _search(method, _on_two_by_two(layered))
    assert run.result.tokens == expected.result.tokens
    assert run.iterations == expected.iterations
    np.testing.assert_array_equal(run.state.points, expected.state.points)
    np.testing.assert_array_equal(run.state.skips, expected.state.skips)
    assert not compiled
    assert any(iteration.adopted for iteration in run.iterations[1:])


def test_a_candidate_is_scored_without_gathering_caches(layered):
    target = _on_two_by_two(layered)
    method = rsd_jax.build_method("self_rsd_c", **SEARCHED["self_rsd_c"])
    job = prepare(method, target, None, Request.of(PROMPTS, max_new_tokens=NEW_TOKENS))
    state, engine = start(job, job.batches[0]), job.engine
    text = (
        read_matchness.lower(target.model, target.params, state, job.params.skips, 4, engine.layout)
        .compile()
        .as_text()
    )
    assert not _gathered(text, job, state, (2, 2))


def _collectives(text):
    """Lines of a program that move data between devices."""
    pattern = re.compile(rf" ({'|'.join(COLLECTIVES)})(-start)?\(")
    return [line for line in text.splitlines() if pattern.search(line)]


def _gathered(text, job, state, shape):
    """Sizes of gathered arrays that could be weights or a shard's rows of a cache."""
    gathers = [line for line in _collectives(text) if "all-gather" in line]
    sizes = {_elements(line) for line in gathers if "/gather_logits/" not in line}
    models = (job.params.target, job.params.draft)
    weights = min(leaf.size for leaf in jax.tree.leaves(models) if leaf.ndim > 1)
    cache = state.target_cache.keys[0].size // shape[0]
    return {size for size in sizes if size >= min(weights, cache)}


def _elements(line):
    """Elements of the largest array a collective makes."""
    shapes = re.findall(r"\w\[([\d,]+)\]", line.split("(")[0] + line.split("=")[1].split("(")[0])
    return max(int(np.prod([int(n) for n in shape.split(",")])) for shape in shapes)


def test_parameters_and_caches_are_sharded(directories):
    """On a 2 x 4 mesh no wide parameter or cache is whole on a device."""
    target, draft = _pair(directories, (2, 4))
    *_, state = _decode("sd", (target, draft))
    wide = target.params["layers_0"]["mlp"]["gate_proj"]["kernel"]
    assert wide.sharding.shard_shape(wide.shape) == (32, 16)
    keys = state.target_cache.keys[0]
    assert keys.sharding.shard_shape(keys.shape) == (4, 1, keys.shape[2], 8)


def test_more_devices_than_key_value_heads(directories):
    """The query heads of one key/value head are split; the model's sizes are those of its file."""
    target, draft = _pair(directories, (1, 8))
    *_, state = _decode("sd", (target, draft))
    keys = state.target_cache.keys[0]
    assert keys.shape[1] == 8
    assert keys.sharding.shard_shape(keys.shape)[1] == 1
    attention = target.params["layers_0"]["self_attn"]
    for name in ("q_proj", "k_proj", "v_proj"):
        kernel = attention[name]["kernel"]
        assert kernel.sharding.shard_shape(kernel.shape) == (32, 8)
    copied = attention["k_proj"]["kernel"].reshape(32, 4, 2, 8)
    np.testing.assert_array_equal(copied[:, :, 0], copied[:, :, 1])
    one = rsd_jax.load_model(directories[0])
    assert target.model.sizes == one.model.sizes
    counts = [search_identity(loaded)["num_parameters"] for loaded in (target, one)]
    assert counts[0] == counts[1] == sum(leaf.size for leaf in jax.tree.leaves(one.params))


def test_biases_of_key_value_heads(tmp_path):
    """A relative of Llama with biases gives the same logits where its heads are copied."""
    config, rng = Qwen2Config(**vars(CONFIG)), np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: leaf + 0.3 * rng.normal(size=leaf.shape).astype(leaf.dtype),
        tiny_params(3, config),
    )
    save_model(tmp_path, config, params, dtype="float32")
    mesh = jax.make_mesh((1, 8), ("data", "model"))
    tokens = jnp.asarray([[1, 2, 3, 4]], jnp.int32)
    found = []
    for loaded in (rsd_jax.load_model(tmp_path, mesh=mesh), rsd_jax.load_model(tmp_path)):
        found.append(jax.jit(loaded.model.score)(loaded.params, tokens))
    assert found[0].shape == (1, 4, CONFIG.vocab_size)
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)


def test_heads_that_no_axis_splits_are_an_error(directories):
    """The error names the axis and what fits; a draft may be whole on every device instead."""
    mesh = jax.make_mesh((1, 3), ("data", "model"), devices=jax.devices()[:3])
    message = (
        r"target: the mesh axis 'model' has 3 devices.* 8 query heads, 4 key/value heads and .*"
        r"that fit: 1, 2, 4, 8\. A draft may be whole .* replicate_draft=True"
    )
    with pytest.raises(rsd_jax.ConfigError, match=message):
        rsd_jax.load_model(directories[0], mesh=mesh)
    rsd_jax.load_model(directories[1], mesh=mesh, replicated=True)


def test_logits_are_left_alone_outside_the_programs():
    """Also where a user has set a mesh of other axes."""
    mesh = jax.make_mesh((2, 4), ("rows", "columns"))
    logits = jnp.ones((2, 3, 8))
    with jax.set_mesh(mesh):
        assert "sharding_constraint" not in str(jax.make_jaxpr(sharding.gather_logits)(logits))
    assert sharding.gather_logits(logits) is logits


def test_a_missing_axis_and_an_unknown_one():
    """A mesh may have a single axis; an unknown name of an axis is an error."""
    assert MeshLayout.of(jax.make_mesh((8,), ("data",))).data_shards == 8
    assert MeshLayout.of(jax.make_mesh((8,), ("model",))).data_shards == 1
    with pytest.raises(rsd_jax.ConfigError, match="mesh axes"):
        MeshLayout.of(jax.make_mesh((8,), ("batch",)))


def test_two_dimensions_on_one_axis_collide():
    layout = MeshLayout.of(jax.make_mesh((2, 4), ("data", "model")))
    with pytest.raises(rsd_jax.ConfigError, match="twice"):
        layout.spec(("heads", "mlp"), (8, 8))


def test_pairs_on_different_meshes(directories):
    target, _ = _pair(directories, (8, 1))
    _, draft = _pair(directories, None)
    method = rsd_jax.build_method("sd", length=2)
    with pytest.raises(rsd_jax.ConfigError, match="different meshes"):
        rsd_jax.generate(method, target, draft, PROMPTS, max_new_tokens=NEW_TOKENS)
