"""Block efficiency along a text: against the closed form, against ranks, and at its limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsd_jax.core.sampling import Purpose, gumbels, row_keys
from rsd_jax.core.warp import make_warp
from rsd_jax.distillation.losses import expected_acceptance, log_law
from rsd_jax.distillation.ranks import rank_probabilities
from rsd_jax.distillation.simulation import block_starts, simulated_tokens
from rsd_jax.engine.methods import build_method
from rsd_jax.errors import ConfigError

_WINDOWS, _PLACES, V = 200, 50, 6
_LENGTH = _PLACES + 3


def _logits(seed):
    return 1.5 * jax.random.normal(jax.random.key(seed), (V,))


def _simulate(method, target, draft, temperature=1.0, length=_LENGTH):
    """Tokens per block where every place of every window has the same two laws."""
    starts = block_starts(length, method.drafter.shape.depth, _PLACES)
    shape = (_WINDOWS, length, V)
    return np.asarray(
        jax.jit(
            lambda target, draft, keys: simulated_tokens(
                method,
                jnp.broadcast_to(target, shape),
                jnp.broadcast_to(draft, shape),
                starts,
                warp=make_warp(temperature),
                keys=keys,
            )
        )(target, draft, row_keys(3, jnp.arange(_WINDOWS, dtype=jnp.int32)))
    )


def _within_noise(tokens, expected):
    """Ten thousand independent blocks: false alarm in 1 of 150 000."""
    error = tokens.std() / np.sqrt(tokens.size)
    assert tokens.size == _WINDOWS * _PLACES
    assert abs(tokens.mean() - expected) < 4.5 * error


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_a_chain_has_its_closed_form(temperature):
    target, draft = _logits(0), _logits(1)
    a = float(expected_acceptance(target, draft, temperature=temperature))
    assert 0.2 < a < 0.8
    tokens = _simulate(build_method("sd", length=3), target, draft, temperature)
    _within_noise(tokens, (1 - a**4) / (1 - a))
    # The same beam with one beam is the same chain.
    beam = build_method("rsd_s", width=1, length=3)
    assert (_simulate(beam, target, draft, temperature) == tokens).all()


def test_siblings_have_the_acceptance_of_their_ranks():
    target, draft = _logits(2), _logits(3)
    noise = gumbels(row_keys(1, jnp.arange(4000, dtype=jnp.int32)), Purpose.DRAFT, (V,))
    laws = (jnp.broadcast_to(log_law(logits), noise.shape) for logits in (target, draft))
    _, accepted = rank_probabilities(*laws, noise, 3)
    expected = 1 + float(accepted.sum(-1).mean())
    _within_noise(_simulate(build_method("rsd_s", width=3, length=1), target, draft), expected)
    alone = 1 + float(accepted[:, 0].mean())
    assert expected - alone > 0.1


def test_deeper_levels_read_the_laws_of_their_place():
    """Target and draft agree but at place 5."""
    logits = jnp.broadcast_to(_logits(4), (2, 7, V))
    never = logits.at[:, 5].set(jnp.where(jnp.arange(V) == 0, 0.0, -jnp.inf))
    draft = logits.at[:, 5].set(jnp.where(jnp.arange(V) == 1, 0.0, -jnp.inf))
    method = build_method("rsd_s", width=2, length=3)
    starts = np.asarray([0, 1, 2], np.int32)
    keys = row_keys(0, jnp.arange(2, dtype=jnp.int32))
    tokens = simulated_tokens(method, never, draft, starts, warp=make_warp(1.0), keys=keys)
    # From 2 the third level is drawn at place 4, and place 5 gives the bonus token only.
    assert (np.asarray(tokens) == 4).all()
    tokens = simulated_tokens(
        method, never, draft, np.asarray([3], np.int32), warp=make_warp(1.0), keys=keys
    )
    assert (np.asarray(tokens) == 3).all()


def test_places_and_errors():
    assert block_starts(9, 3, 100).tolist() == [0, 1, 2, 3, 4, 5]
    assert block_starts(9, 3, 2).tolist() == [0, 5]
    assert block_starts(4, 3, 2).tolist() == [0]
    assert block_starts(3, 3, 2).tolist() == []
    with pytest.raises(ConfigError, match="'ar' has no draft model"):
        simulated_tokens(
            build_method("ar"),
            _logits(0),
            _logits(0),
            np.zeros(1, np.int32),
            warp=make_warp(1.0),
            keys=row_keys(0, jnp.arange(1)),
        )
