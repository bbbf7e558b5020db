"""Acceptance per rank and the block efficiency computed from it, against float64 enumeration."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsd_jax.core.sampling import Purpose, gumbels, row_keys
from rsd_jax.distillation.evaluate import RANKS, TREES, evaluate
from rsd_jax.distillation.ranks import (
    expected_block_efficiency,
    rank_acceptance,
    rank_probabilities,
)
from rsd_jax.errors import ConfigError
from rsd_jax.models.config import LlamaConfig
from rsd_jax.models.llama import LlamaModel

V, K, ROWS = 5, 3, 20000

_ranks = jax.jit(rank_probabilities, static_argnums=3)


def _log(law: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(law).astype(np.float32)


def _recursion(p: np.ndarray, q: np.ndarray, siblings) -> tuple[list[float], list[float]]:
    """Probabilities per rank of being reached and of being accepted, for siblings in draw order."""
    r, q, alive, reached, accepted = p, q, 1.0, [], []
    for x in siblings:
        reached.append(alive)
        accepted.append(alive * np.minimum(r, q).sum())
        alive *= 1.0 - min(1.0, r[x] / q[x])
        excess = np.maximum(r - q, 0.0)
        r = excess / excess.sum() if excess.sum() > 0 else r
        q = np.where(np.arange(len(q)) == x, 0.0, q)
        q = q / q.sum() if q.sum() > 0 else q
    return reached, accepted


def _exact(p: np.ndarray, q: np.ndarray, k: int) -> np.ndarray:
    """Acceptance of each rank given the earlier rejections, over all ordered samples."""
    total = np.zeros((2, k))
    for siblings in itertools.permutations(range(len(q)), k):
        left, chance = 1.0, 1.0
        for x in siblings:
            chance, left = chance * q[x] / left, left - q[x]
        total += chance * np.asarray(_recursion(p, q, siblings))
    return total[1] / total[0]


@functools.partial(jax.jit, static_argnums=(1, 2))
def _noise(seed: int, rows: int, size: int) -> jax.Array:
    return gumbels(row_keys(seed, jnp.arange(rows, dtype=jnp.int32)), Purpose.DRAFT, (size,))


def test_one_draw_follows_the_recursion():
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(V), (2, 8))
    noise = np.asarray(_noise(1, 8, V))
    reached, accepted = _ranks(_log(p), _log(q), noise, K)
    assert reached.shape == accepted.shape == (8, K)
    for row in range(8):
        siblings = np.argsort(-(np.log(q[row]) + noise[row]))[:K]
        expected = _recursion(p[row], q[row], siblings)
        np.testing.assert_allclose(reached[row], expected[0], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(accepted[row], expected[1], rtol=1e-4, atol=1e-6)


def test_ranks_are_those_of_all_ordered_samples():
    """Standard errors are below 0.004 where 20000 rows reach a rank; 0.02 is five of them."""
    rng = np.random.default_rng(2)
    for concentration in (0.5, 2.0):
        p, q = rng.dirichlet(np.full(V, concentration), 2)
        logs = (np.broadcast_to(_log(law), (ROWS, V)) for law in (p, q))
        measured = rank_acceptance(*_ranks(*logs, _noise(3, ROWS, V), K))
        expected = _exact(p, q, K)
        assert measured[0] == pytest.approx(np.minimum(p, q).sum(), rel=1e-5)
        np.testing.assert_allclose(measured, expected, atol=0.02)


def test_two_tokens_are_always_enough():
    """With V = 2 the second sibling is the other token; draft (.9, .1), target (.2, .8)."""
    logs = (np.broadcast_to(_log(np.asarray(law)), (64, 2)) for law in ((0.2, 0.8), (0.9, 0.1)))
    measured = rank_acceptance(*_ranks(*logs, _noise(4, 64, 2), 2))
    np.testing.assert_allclose(measured, [0.3, 1.0], rtol=1e-5)


def test_equal_laws_and_small_supports():
    """A rank that is never reached has acceptance 1; missing siblings are not accepted."""
    law = np.random.default_rng(5).dirichlet(np.ones(V), 16)
    reached, accepted = _ranks(_log(law), _log(law), _noise(6, 16, V), K)
    np.testing.assert_allclose(accepted[:, 0], 1.0, rtol=1e-5)
    np.testing.assert_allclose(reached[:, 1:], 0.0, atol=1e-5)
    np.testing.assert_array_equal(rank_acceptance(np.ones((1, 2)) * [1, 0], np.ones((1, 2))), 1.0)
    point = np.zeros((16, V))
    point[:, 1] = 1.0
    reached, accepted = _ranks(_log(law), _log(point), _noise(6, 16, V), K)
    np.testing.assert_allclose(accepted[:, 0], law[:, 1], rtol=1e-5)
    np.testing.assert_allclose(reached[:, 1:], np.stack([1 - law[:, 1]] * 2, -1), rtol=1e-5)
    np.testing.assert_array_equal(accepted[:, 1:], 0.0)


def test_evaluation_reports_ranks_and_trees():
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=8,
        intermediate_size=8,
        num_layers=1,
        num_heads=1,
        num_kv_heads=1,
        head_dim=8,
        tied_embeddings=True,
    )
    model = LlamaModel(config)
    draw = jax.jit(lambda key: jax.tree.map(lambda x: 4 * x, model.init_params(key)))
    params, other = (draw(jax.random.key(i)) for i in range(2))
    windows = np.random.default_rng(7).integers(2, 32, (4, 9)).astype(np.int32)
    measured = evaluate(model, params, windows, teacher=(model, other))
    for t in ("t1", "t0.3"):
        assert 0 < measured[f"acceptance_{t}"] < 1
        ranks = [measured[f"acceptance_{t}_rank{k}"] for k in range(1, RANKS + 1)]
        assert ranks[0] == pytest.approx(measured[f"acceptance_{t}"], rel=1e-5)
        for name, branching in TREES.items():
            expected = expected_block_efficiency(np.asarray(ranks), branching)
            assert measured[f"block_efficiency_{t}_{name}"] == pytest.approx(expected)
    halves = evaluate(model, params, windows, teacher=(model, other), batch_size=2)
    assert halves == pytest.approx(measured, rel=1e-4)
    same = evaluate(model, params, windows, teacher=(model, params))
    assert same["block_efficiency_t1_sd_4"] == pytest.approx(5.0, rel=1e-4)


def test_block_efficiency():
    a = 0.7
    chain = expected_block_efficiency(np.asarray([a]), (1,) * 4)
    assert chain == pytest.approx((1 - a**5) / (1 - a))
    # Nodes pass on with 1 - .3 * .6 and then .7.
    tree = expected_block_efficiency(np.asarray([0.7, 0.4]), (2, 1))
    assert tree == pytest.approx(1 + 0.82 + 0.82 * 0.7)
    assert expected_block_efficiency(np.ones(3), (3, 1)) == 3.0
    assert expected_block_efficiency(np.zeros(3), (3, 1)) == 1.0
    for branching in ((3, 1), (0,)):
        with pytest.raises(ConfigError, match="number of ranks"):
            expected_block_efficiency(np.asarray([0.7, 0.4]), branching)
