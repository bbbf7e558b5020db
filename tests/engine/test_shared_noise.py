"""Match with shared noise: every drafter and tree gives the tokens of autoregressive decoding.

The target's token after n tokens is the argmax of log p + g, with noise g that depends on the row
and on n alone. A child is accepted iff its token is that argmax. The output is then the same, token
for token, for every drafter and every tree at any temperature: whatever the engine does to
positions, caches and commits, a fault changes a token.
"""

import dataclasses
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rsd_jax
from rsd_jax.core.sampling import Purpose, argmax, block_keys, gumbels, is_law
from rsd_jax.core.types import NO_NODE, VerifyResult
from rsd_jax.engine import phases
from rsd_jax.verifiers import Match
from tests import tiny


@dataclasses.dataclass(frozen=True)
class SharedNoise(Match):
    """Marks a program whose phase `verify` is the one below."""


def _verify(engine, state, tree, logits, options) -> VerifyResult:
    assert isinstance(engine.verifier, SharedNoise)
    places = phases._places(engine, tree)
    log_p = options.target_warp(logits)
    if places is not None:
        log_p = jnp.take_along_axis(log_p, places[..., None], axis=1)
    depths = range(tree.shape.depth + 1)
    keys = [block_keys(state.row_keys, state.length + depth) for depth in depths]
    vocab = log_p.shape[-1:]
    noise = jnp.stack([gumbels(key, Purpose.EMIT, vocab) for key in keys], axis=1)
    return jax.vmap(lambda *row: _walk(tree.shape.depth, *row))(
        tree.tokens, tree.parents, tree.valid, log_p, noise
    )


def _walk(depth, tokens, parents, valid, log_p, noise) -> VerifyResult:
    """One row; all copies of the accepted prefix are followed together."""
    slots = jnp.arange(len(tokens), dtype=jnp.int32)
    here, node, accepted = slots == 0, jnp.asarray(0, jnp.int32), jnp.asarray(0, jnp.int32)
    token, going = argmax(log_p[0] + noise[0]), jnp.asarray(True)
    for level in range(depth):
        children = valid & (parents >= 0) & here[parents] & (tokens == token) & going
        going = children.any()
        here = children
        node = jnp.where(going, jnp.argmax(children).astype(jnp.int32), node)
        accepted += going.astype(jnp.int32)
        token = jnp.where(going, argmax(log_p[node] + noise[level + 1]), token)
    path = []
    last = node
    for level in reversed(range(depth)):
        path.append(jnp.where(level < accepted, last, NO_NODE))
        last = jnp.where(level < accepted, parents[last], last)
    nodes = jnp.stack(path[::-1]) if path else jnp.zeros((0,), jnp.int32)
    zero = jnp.asarray(0, jnp.int32)
    ranks = jnp.where(nodes == NO_NODE, NO_NODE, zero)
    return VerifyResult(accepted, nodes, ranks, token, is_law(log_p[node]), zero)


def _decode(name: str) -> rsd_jax.GenerateResult:
    built = tiny.method(name)
    method = dataclasses.replace(built, verifier=SharedNoise())
    with mock.patch.object(phases, "verify", _verify):
        return rsd_jax.generate(
            method,
            *tiny.pair(),
            tiny.PROMPTS,
            max_new_tokens=tiny.NUM_TOKENS,
            temperature=1.0,
            **tiny.skips(name),
        )


@pytest.fixture(scope="module")
def autoregressive() -> rsd_jax.GenerateResult:
    return _decode("ar")


@pytest.mark.parametrize("name", ["sd", "spectr", "rsd_c", "rsd_s", "swift"])
def test_tokens_are_those_of_autoregressive_decoding(name, autoregressive):
    result = _decode(name)
    assert result.tokens == autoregressive.tokens
    assert result.stats.block_efficiency > 1.02
    assert (np.asarray(result.num_tokens) == tiny.NUM_TOKENS).all()
