"""An adapter with which a target drafts for itself: the student, and the stage."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

import rsd_jax
from rsd_jax.distillation.data import documents
from rsd_jax.distillation.data.windows import Windows
from rsd_jax.distillation.layer_dropout_student import LayerDropoutStudent
from rsd_jax.distillation.pipeline import run_stage
from rsd_jax.distillation.settings import Settings, TrainingSettings
from rsd_jax.distillation.training.checkpoints import Checkpoints
from rsd_jax.distillation.training.step import abstract_state
from rsd_jax.distillation.workspace import Workspace
from rsd_jax.models.checkpoint import save_model
from rsd_jax.models.llama import LlamaModel
from rsd_jax.testing.tiny_llama import TINY_CONFIG, tiny_params

pytestmark = pytest.mark.standard_promotion  # optax

_CONFIG = dataclasses.replace(TINY_CONFIG, num_layers=4)
_STUDENT = LayerDropoutStudent(LlamaModel(_CONFIG), rank=2, fewest=1, most=3)
_TOKENS = jax.random.randint(jax.random.key(0), (8, 6), 0, _CONFIG.vocab_size)


@pytest.fixture(scope="module")
def params():
    return tiny_params(3, _CONFIG)


@pytest.fixture(scope="module")
def moved(params):
    """A student whose adapter is not zero."""
    start = _STUDENT.start(params, jax.random.key(1))
    adapter = jax.tree.map(lambda leaf: leaf + 0.05, start["adapter"])
    return start | {"adapter": adapter}


def test_the_adapter_adds_nothing_at_first(params, moved):
    start = _STUDENT.start(params, jax.random.key(1))
    jax.tree.map(np.testing.assert_array_equal, _STUDENT.adapted(start), params)
    same = jax.tree.map(lambda a, b: bool((a == b).all()), _STUDENT.adapted(moved), params)
    flat = jax.tree_util.tree_flatten_with_path(same)[0]
    assert all(equal != ("kernel" in jax.tree_util.keystr(path)) for path, equal in flat)


_score = jax.jit(lambda params, tokens: _STUDENT.score(params, tokens))
_llama_score = jax.jit(
    lambda params, tokens, skips: LlamaModel(_CONFIG).score(params, tokens, skips)
)


def test_a_quarter_of_the_rows_is_whole_and_the_others_skip(moved):
    adapted = _STUDENT.adapted(moved)
    logits = _score(moved, _TOKENS)
    whole = _llama_score(adapted, _TOKENS, jnp.zeros((4, 2), bool))
    np.testing.assert_allclose(logits[:2], whole[:2], atol=1e-5)
    sets = [
        _STUDENT._draw(jax.random.fold_in(jax.random.key(_TOKENS.sum()), group)) for group in (0, 1)
    ]
    for rows, skips in zip((slice(2, 5), slice(5, 8)), sets, strict=True):
        expected = _llama_score(adapted, _TOKENS, skips)
        np.testing.assert_allclose(logits[rows], expected[rows], atol=1e-5)
        assert np.abs(expected - whole)[rows].max() > 1e-3
    given = jax.jit(_STUDENT.score)(moved, _TOKENS, sets[0])
    np.testing.assert_allclose(given, _llama_score(adapted, _TOKENS, sets[0]), atol=1e-5)


def test_drawn_sets_have_every_size_and_spare_the_ends():
    draw = jax.vmap(_STUDENT._draw)(jax.random.split(jax.random.key(0), 200))
    assert not draw[:, [0, -1]].any()
    sizes = np.asarray(draw.sum(axis=(1, 2)))
    assert set(sizes.tolist()) == {1, 2, 3}
    assert draw[:, 1:-1].any(axis=0).all(), "any sub-layer"


def test_the_target_is_not_trained(moved):
    gradient = jax.jit(jax.grad(lambda p: _STUDENT.score(p, _TOKENS).var()))(moved)
    assert not any(leaf.any() for leaf in jax.tree.leaves(gradient["target"]))
    assert all(leaf.any() for leaf in jax.tree.leaves(gradient["adapter"]))


def test_bad_options(moved):
    for values in ({"fewest": 0}, {"fewest": 4}, {"most": 5}, {"most": 2.5}):
        with pytest.raises(rsd_jax.ConfigError, match="from 1 to 4"):
            dataclasses.replace(_STUDENT, **values)
    with pytest.raises(rsd_jax.ConfigError, match=r"skipping\.rank=0"):
        dataclasses.replace(_STUDENT, rank=0)
    with pytest.raises(rsd_jax.ConfigError, match="at least 3 layers"):
        dataclasses.replace(_STUDENT, network=LlamaModel(TINY_CONFIG))
    with pytest.raises(rsd_jax.ConfigError, match="batch_size / accumulate is 2"):
        _STUDENT.score(moved, _TOKENS[:2])


class _Text:
    """Windows that repeat, so that there is something to learn."""

    def batch_at(self, *, seed, step, batch_size, length):
        starts = np.random.default_rng((seed, step)).integers(0, _CONFIG.vocab_size, batch_size)
        order = np.arange(1 + length)
        return Windows(((starts[:, None] + order) % _CONFIG.vocab_size).astype(np.int32))

    def spread_windows(self, *, count, length):
        return self.batch_at(seed=1, step=0, batch_size=count, length=length)


def _run(config, folder):
    run_stage(Workspace(Settings.from_config(config), folder, folder / "export"), "skipping")


def test_the_stage_leaves_an_adapter_that_helps(params, tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "open_mixture", lambda *_: _Text())
    save_model(tmp_path / "target", _CONFIG, params, dtype="float32")
    recipe = TrainingSettings(
        objective="forward_kl",
        weight_decay=0.0,
        steps=30,
        batch_size=8,
        window=8,
        learning_rate=2e-2,
        warmup_steps=2,
        checkpoint_every=30,
        eval_windows=8,
    )
    config = ml_collections.ConfigDict(
        {
            "target_directory": str(tmp_path / "target"),
            "target_dtype": "float32",
            "skipping": {
                "rank": 4,
                "fewest": 1,
                "most": 3,
                "mixture": {"library": 1.0},
                "recipe": dataclasses.asdict(recipe),
            },
        }
    )
    _run(config, tmp_path)
    measured = json.loads((tmp_path / "skipping.json").read_text())
    names = {"loss", "forward_kl", "matchness_1", "matchness_2", "matchness_3"}
    assert set(measured["before"]) == set(measured["after"]) == names
    assert measured["before"]["forward_kl"] == pytest.approx(0.0, abs=1e-6)
    assert measured["after"]["matchness_2"] > measured["before"]["matchness_2"]
    saved = Checkpoints(tmp_path / "skipping/checkpoints")
    student = LayerDropoutStudent(LlamaModel(_CONFIG), rank=4, most=3)
    _, state = saved.restore(abstract_state(student, recipe))
    saved.close()
    jax.tree.map(np.testing.assert_array_equal, state.params["target"], params)
    # Finished, it trains no more, and writes the same again.
    weights = tmp_path / "export/skipping/adapter_model.safetensors"
    before = weights.read_bytes()
    weights.unlink()
    _run(config, tmp_path)
    assert weights.read_bytes() == before
    base = json.loads(weights.with_name("adapter_config.json").read_text())
    assert base["base_model_name_or_path"] == "../../target"
    # What was written is what was measured.
    loaded = rsd_jax.load_model(tmp_path / "target", adapter=tmp_path / "export/skipping")
    windows = _Text().spread_windows(count=8, length=8).tokens
    labels = jnp.asarray(windows[:, 1:])[..., None]
    logits = jax.nn.log_softmax(loaded.model.score(loaded.params, windows[:, :-1]))
    loss = -float(jnp.take_along_axis(logits, labels, axis=-1).mean())
    assert loss == pytest.approx(measured["after"]["loss"], abs=1e-4)


def test_a_stage_that_cannot_run_says_why(params, tmp_path):
    save_model(tmp_path / "target", _CONFIG, params, dtype="float32")
    recipe = dataclasses.asdict(TrainingSettings(objective="forward_kl", weight_decay=0.0, steps=1))
    section = {"rank": 1, "fewest": 1, "most": 2, "mixture": {}, "recipe": recipe}
    base = {"target_directory": str(tmp_path / "target"), "target_dtype": "float32"}
    for values, message in (
        (None, "no `skipping`"),
        ({"rank": 1}, r"'skipping\.fewest' is missing"),
        (section | {"ranks": 1}, r"unknown field 'skipping\.ranks'"),
        (
            section | {"recipe": recipe | {"weight_decay": 0.1}},
            r"\.recipe\.weight_decay=0\.1",
        ),
        (
            section | {"recipe": recipe | {"accumulate": 4}},
            r"g\.recipe: batch_size / accu.* is 2",
        ),
    ):
        config = ml_collections.ConfigDict(base | ({} if values is None else {"skipping": values}))
        with pytest.raises(rsd_jax.ConfigError, match=message):
            _run(config, tmp_path)
