"""A draft's table that starts as the target's."""

import numpy as np
import pytest

from rsd_jax.distillation.table_start import with_table_of_target
from rsd_jax.errors import ConfigError

_RNG = np.random.default_rng(0)
_TARGET = _RNG.normal(size=(40, 12)).astype(np.float32) * np.linspace(3, 0.1, 12, dtype=np.float32)


def _draft(ids, width):
    table = 0.02 * _RNG.normal(size=(ids, width)).astype(np.float32)
    return {"embed_tokens": {"embedding": table}, "norm": {"scale": np.ones(width, np.float32)}}


def _table(params):
    return params["embed_tokens"]["embedding"]


def test_inner_products_of_rows_are_kept():
    params = _draft(40, 12)
    started = with_table_of_target(params, _TARGET, None)
    assert started["norm"] is params["norm"]
    rows = _table(started)
    assert rows.dtype == np.float32
    scale = np.square(rows).sum() / np.square(_TARGET).sum()
    np.testing.assert_allclose(rows @ rows.T, scale * (_TARGET @ _TARGET.T), atol=1e-5)
    # The mean square is that of random rows, and fewer columns keep what varies most.
    assert np.square(rows).mean() == pytest.approx(np.square(_table(params)).mean(), rel=1e-5)
    narrow = _table(with_table_of_target(_draft(40, 6), _TARGET, None))
    best = np.linalg.svd(_TARGET, compute_uv=True)
    kept = (best.U[:, :6] * best.S[:6]) @ best.Vh[:6]
    ratio = np.square(narrow).sum() / np.square(kept).sum()
    np.testing.assert_allclose(narrow @ narrow.T, ratio * (kept @ kept.T), atol=1e-5)


def test_an_id_without_a_token_keeps_its_row():
    params = _draft(4, 3)
    rows = _table(with_table_of_target(params, _TARGET, np.asarray([-1, 7, 2, 30])))
    np.testing.assert_array_equal(rows[0], _table(params)[0])
    chosen = _TARGET[[7, 2, 30]]  # three rows span three directions: nothing is lost
    scale = np.square(rows[1:]).sum() / np.square(chosen).sum()
    np.testing.assert_allclose(rows[1:] @ rows[1:].T, scale * (chosen @ chosen.T), atol=1e-6)


def test_a_draft_wider_than_the_table_is_refused():
    with pytest.raises(ConfigError, match="hidden_size=16, the target's table only 12 columns"):
        with_table_of_target(_draft(40, 16), _TARGET, None)
