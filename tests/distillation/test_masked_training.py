"""Training on responses: masks, stored log probabilities of the target, windows of the draft."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsd_jax.core.sharding import MeshLayout
from rsd_jax.core.types import LoadedModel
from rsd_jax.distillation.data.mixture import Mixture, Source
from rsd_jax.distillation.data.windows import Top, Windows
from rsd_jax.distillation.losses import tvd_pp
from rsd_jax.distillation.responses.on_policy import OnPolicy, mix_on_policy
from rsd_jax.distillation.responses.source import as_source
from rsd_jax.distillation.settings import TrainingSettings
from rsd_jax.distillation.training.step import as_batch, mean_loss
from rsd_jax.distillation.training.train import train
from rsd_jax.distillation.truncated import truncate
from rsd_jax.errors import ConfigError
from rsd_jax.models.config import LlamaConfig
from rsd_jax.models.llama import LlamaModel

pytestmark = pytest.mark.standard_promotion  # optax

V = 16
_MODEL = LlamaModel(
    LlamaConfig(
        vocab_size=V,
        hidden_size=16,
        intermediate_size=24,
        num_layers=1,
        num_heads=2,
        num_kv_heads=2,
        head_dim=8,
        tied_embeddings=True,
    )
)
_TEACHER = _MODEL, jax.tree.map(lambda x: 3 * x, _MODEL.init_params(jax.random.key(7)))
_RECIPE = TrainingSettings(
    objective="forward_kl",
    steps=3,
    batch_size=8,
    window=9,
    warmup_steps=1,
    learning_rate=1e-2,
    log_every=3,
)


def _source(*, k=None):
    """Twenty sequences of 2 or 3 prompt tokens and 1 to 6 more, scored by the teacher."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(2, 4, 20), rng.integers(1, 7, 20)
    sequences = [rng.integers(1, V, prompt + new) for prompt, new in zip(*sizes, strict=True)]
    source = as_source(
        "responses", np.concatenate(sequences).astype(np.uint16), sum(sizes), sizes[0]
    )
    if k is None:
        return source
    kept = _kept(np.concatenate(sequences), k)
    return dataclasses.replace(source, top=Top(*(part[source.is_response] for part in kept)))


def _kept(tokens, k):
    """Log probabilities of a teacher without context, so that windows can be cut anywhere."""
    logits = jax.random.normal(jax.random.key(3), (V, V))[jnp.asarray(tokens) - 1] * 2
    kept = truncate(logits, k)
    return np.asarray(kept.ids, np.uint16), np.asarray(kept.values), np.asarray(kept.log_rest)


def _loss(recipe, windows, teacher=_TEACHER, *, params=None):
    batch = as_batch(windows, None, top=teacher is None)
    params = _MODEL.init_params(jax.random.key(0)) if params is None else params
    model, theirs = teacher or (None, None)
    function = jax.jit(functools.partial(mean_loss, _MODEL, model, recipe))
    return jax.value_and_grad(function)(params, theirs, batch)


@pytest.mark.parametrize("objective", ["cross_entropy", "forward_kl", "tvd_pp"])
def test_labels_that_are_masked_do_not_count(objective):
    """Loss and gradient depend only on unmasked labels, whatever the places of masked labels."""
    recipe = dataclasses.replace(_RECIPE, objective=objective)
    tokens = np.random.default_rng(1).integers(0, V, (2, 10)).astype(np.int32)
    mask = np.zeros((2, 9), bool)
    mask[:, :5] = True
    masked = _loss(recipe, Windows(tokens, mask))
    short = _loss(recipe, Windows(tokens[:, :6]))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), masked, short)
    tokens[:, 6:] = 0
    changed = _loss(recipe, Windows(tokens, mask))
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), masked, changed
    )


def test_moments_over_the_batch_leave_masked_positions_out():
    rng = np.random.default_rng(2)
    target, draft = rng.normal(size=(2, 4, 6, V)).astype(np.float32)
    weights = np.zeros((4, 6), np.float32)
    weights[:, ::2] = 3.0

    def gradient(target, draft, weights):
        return jax.grad(lambda draft: tvd_pp(target, draft, weights=weights).sum())(draft)

    alone = gradient(target[:, ::2], draft[:, ::2], None)
    within = gradient(target, draft, weights)[:, ::2]
    np.testing.assert_allclose(within, alone, rtol=1e-4)
    assert not np.allclose(gradient(target, draft, None)[:, ::2], alone, rtol=1e-4)


def _state(directory, recipe, data, shape=None, **arguments):
    mesh = None if shape is None else jax.make_mesh(shape, ("data", "model"))
    return train(_MODEL, recipe, data, directory, mesh=mesh, **arguments)


def _assert_close(state, other):
    jax.tree.map(
        lambda one, two: np.testing.assert_allclose(one, two, atol=2e-5),
        *map(jax.device_get, (state.params, other.params)),
    )


def test_parts_and_shards_average_to_the_masked_mean(tmp_path):
    """The parts have different numbers of labels, so a mean of their means would be wrong."""
    data = _source()
    counts = data.batch_at(seed=0, step=0, batch_size=8, length=9).mask.sum(1)
    assert len(set(counts.tolist())) > 2
    plain = _state(tmp_path / "plain", _RECIPE, data, teacher=_TEACHER)
    parts = dataclasses.replace(_RECIPE, accumulate=4)
    _assert_close(_state(tmp_path / "parts", parts, data, teacher=_TEACHER), plain)
    if jax.device_count() >= 8:
        _assert_close(_state(tmp_path / "mesh", _RECIPE, data, (4, 2), teacher=_TEACHER), plain)


@pytest.mark.parametrize("objective", ["forward_kl", "lk"])
def test_stored_log_probabilities_stand_in_for_the_teacher(objective):
    """With all V tokens kept, the loss equals the loss to the dense law, at any temperature."""
    recipe = dataclasses.replace(_RECIPE, objective=objective, loss_temperature=0.7)
    source = _source(k=V)
    windows = source.batch_at(seed=0, step=1, batch_size=8, length=9)
    value, slopes = _loss(recipe, windows, None)
    params = _MODEL.init_params(jax.random.key(0))
    logits = np.asarray(_MODEL.score(params, windows.tokens[:, :-1]), np.float64) / 0.7
    q = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    # What the teacher knew at a label, from its log probabilities in the order of the tokens.
    log_p = np.zeros_like(q)
    np.put_along_axis(log_p, windows.top.ids.astype(int), windows.top.logprobs / 0.7, axis=-1)
    p = np.exp(log_p) / np.exp(log_p).sum(-1, keepdims=True)
    losses = {
        "forward_kl": (p * np.log(p / q)).sum(-1),
        "lk": -np.log(np.minimum(p, q).sum(-1)),
    }
    np.testing.assert_allclose(value, losses[objective][windows.mask].mean(), rtol=1e-4)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))


def test_a_run_on_stored_log_probabilities(tmp_path):
    """Without a teacher; on a mesh it is the same run."""
    data = _source(k=4)
    assert data.batch_at(seed=0, step=0, batch_size=8, length=9).top.ids.dtype == np.uint16
    plain = _state(tmp_path / "plain", _RECIPE, data)
    if jax.device_count() >= 8:
        _assert_close(_state(tmp_path / "mesh", _RECIPE, data, (4, 2)), plain)
    for index, bad in enumerate((_source(), Mixture((_source(k=4),)))):
        with pytest.raises(ConfigError, match="needs a teacher, or windows with stored"):
            _state(tmp_path / f"bad{index}", _RECIPE, bad)
        assert not (tmp_path / f"bad{index}").exists()


def test_a_mixture_with_responses_trains_and_resumes(tmp_path):
    text = Source("text", np.random.default_rng(5).integers(1, V, 90).astype(np.uint16), 1.0)
    mixture = Mixture((text, _source()))
    recipe = dataclasses.replace(_RECIPE, steps=4, checkpoint_every=2, objective="lk_mixed")
    draft = LoadedModel(_MODEL, None)
    options = OnPolicy(fraction=0.4, max_new_tokens=4)
    prompts = _source().prompts()
    seen = []

    def rewrite(windows, params, step):
        seen.append(step)
        loaded = dataclasses.replace(draft, params=params)
        with jax.numpy_dtype_promotion("standard"):
            return mix_on_policy(windows, loaded, prompts, options, seed=recipe.seed, step=step)

    arguments = {"teacher": _TEACHER, "rewrite": rewrite}
    whole = _state(tmp_path / "whole", recipe, mixture, **arguments)
    _state(tmp_path / "parts", recipe, mixture, stop_after=3, **arguments)
    resumed = _state(tmp_path / "parts", recipe, mixture, **arguments)
    jax.tree.map(np.testing.assert_array_equal, resumed, whole)
    assert seen == [0, 1, 2, 3, 0, 1, 2, 3]
    without = _state(tmp_path / "without", recipe, mixture, teacher=_TEACHER)
    assert not np.array_equal(*(jax.tree.leaves(s.params)[0] for s in (whole, without)))


def test_a_batch_on_the_devices():
    windows = Windows(np.zeros((8, 4), np.int32), np.eye(8, 3, dtype=bool))
    batch = as_batch(windows, None, top=True)
    np.testing.assert_array_equal(batch.weights, 8 * np.eye(8, 3))
    assert batch.top is None
    assert as_batch(Windows(windows.tokens), None, top=True).weights is None
    nothing = as_batch(windows._replace(mask=np.zeros((8, 3), bool)), None, top=False)
    assert float(_loss_of(nothing)) == 0.0
    if jax.device_count() >= 8:
        layout = MeshLayout.of(jax.make_mesh((4, 2), ("data", "model")))
        placed = as_batch(windows, layout, top=False)
        assert placed.weights.sharding.shard_shape(placed.weights.shape) == (2, 3)


def _loss_of(batch):
    params = _MODEL.init_params(jax.random.key(0))
    recipe = dataclasses.replace(_RECIPE, objective="cross_entropy")
    return mean_loss(_MODEL, None, recipe, params, None, batch)
