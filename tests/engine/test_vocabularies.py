"""A draft with fewer, more or other token ids than its target: the output has the target's law.

False alarms: each sampled run makes 5 tests; over all runs of this file the probability that any
test of correct code fails is at most ALPHA, by the union bound.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rsd_jax
from rsd_jax.core.vocabulary import STAND_IN, OnMappedTokens, on_shared_tokens
from rsd_jax.core.warp import make_warp
from rsd_jax.drafters import TREE_RULES
from rsd_jax.testing import Instance, TableModel, assert_lossless
from rsd_jax.verifiers import VERIFIERS
from tests import joint_law

ALPHA = 1e-6
SIZES = (2, 5)
OTHER = "other ids"
DRAFTS = (*SIZES, OTHER)
OTHER_IDS = np.asarray([3, -1, 1], np.int32)
"""The ids of the target's three tokens in a draft of five; the draft lacks the second."""
METHODS = {
    "sd": {"length": 2},
    "spectr": {"num_drafts": 2, "length": 2},
    "rsd_c": {"branching": (2, 2)},
    "rsd_s": {"width": 2, "length": 2},
}
CASES = list(itertools.product(METHODS, DRAFTS))
FALSE_ALARM = ALPHA / (5 * len(CASES))


def _draft(kind: int | str) -> rsd_jax.LoadedModel:
    """The draft of the joint-law tests with columns of its table cut off, added or rearranged."""
    size = max(SIZES) if kind == OTHER else kind
    tables = joint_law.pair()[1].params["tables"]
    model = TableModel(vocab_size=size)
    extra = model.init_params(jax.random.key(7), scale=1.5)["tables"][..., tables.shape[-1] :]
    tables = jnp.concatenate([tables, extra], axis=-1)[..., :size]
    if kind != OTHER:
        return rsd_jax.LoadedModel(model, {"tables": tables})
    # The draft proposes well where its table has the target's columns.
    own = tables[..., jnp.asarray([3, 2, 4, 0, 1])]
    params = {"model": {"tables": own}, "draft_ids": jnp.asarray(OTHER_IDS)}
    return rsd_jax.LoadedModel(OnMappedTokens(model, 3), params)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_the_joint_law_of_generate(name, kind):
    prompts = [joint_law.PROMPTS[row % 4] for row in range(joint_law.BATCH)]
    result = rsd_jax.generate(
        rsd_jax.build_method(name, **METHODS[name]),
        joint_law.pair()[0],
        _draft(kind),
        prompts,
        max_new_tokens=5,
    )
    checks = joint_law.check(np.asarray(result.tokens), false_alarm=FALSE_ALARM)
    assert all(check.passed for check in checks), checks
    # Drafts are of use: whole trees are accepted, and the target's own token 2 occurs.
    assert (result.stats.accepted_depths[:, -1] >= 1).mean() >= 0.2
    assert any(2 in row for row in result.tokens)


def _laws(model, params, vocab: int, depth: int) -> tuple[np.ndarray, ...]:
    """The laws of a model after the prompt [2] and every prefix of up to `depth` tokens."""
    tables = []
    for length in range(depth + 1):
        prefixes = list(itertools.product(range(vocab), repeat=length))
        tokens = jnp.asarray([[2, *prefix] for prefix in prefixes], jnp.int32)
        logits = np.asarray(model.score(params, tokens)[:, -1], np.float64)
        probs = np.exp(logits - logits.max(-1, keepdims=True))
        tables.append(probs / probs.sum(-1, keepdims=True))
    return tuple(tables)


@pytest.mark.parametrize("kind", DRAFTS)
def test_the_enumerated_law(kind):
    """Exact, for every tree and prefix, those with a token that the draft lacks among them."""
    target, draft = joint_law.pair()[0], _draft(kind)
    vocab = target.model.vocab_size
    shared = on_shared_tokens(draft.model, vocab)
    laws = _laws(shared, draft.params, vocab, 1)
    lacking = OTHER_IDS < 0 if kind == OTHER else np.arange(vocab) >= kind
    for table in laws:
        assert ((table == 0) == lacking).all()
        np.testing.assert_allclose(table.sum(-1), 1)
    instance = Instance(target=_laws(target.model, target.params, vocab, 2), draft=laws)
    rule = TREE_RULES["constant_branching"]((2, 2))
    assert_lossless(VERIFIERS["recursive_rejection"](), rule, [instance])


def test_what_the_draft_is_fed_and_draws_from():
    target = joint_law.MODEL
    for size in SIZES:
        draft = _draft(size)
        shared = on_shared_tokens(draft.model, target.vocab_size)
        tokens = jnp.asarray([[0, 2, 1], [1, 2, 2]], jnp.int32)
        logits = shared.score(draft.params, tokens)
        fed = jnp.where(tokens < size, tokens, STAND_IN)
        own = draft.model.score(draft.params, fed)
        common = min(size, target.vocab_size)
        np.testing.assert_array_equal(logits[..., :common], own[..., :common])
        assert logits.shape[-1] == target.vocab_size
        q = make_warp(1.0)(logits)
        assert (np.asarray(q[..., common:]) == -np.inf).all()
        np.testing.assert_allclose(np.exp(q).sum(-1), 1, rtol=1e-6)
    assert on_shared_tokens(target, target.vocab_size) is target


def test_other_ids():
    """What a draft with another tokenizer is fed, and where its logits go; of any leading shape."""
    draft = _draft(OTHER)
    tokens = jnp.asarray([[0, 2, 1], [1, 2, 2]], jnp.int32)
    logits = draft.model.score(draft.params, tokens)
    fed = jnp.asarray([[3, 1, STAND_IN], [STAND_IN, 1, 1]], jnp.int32)
    own = draft.model.model.score(draft.params["model"], fed)
    np.testing.assert_array_equal(logits[..., [0, 2]], own[..., [3, 1]])
    assert (np.asarray(logits[..., 1]) == -np.inf).all()


def test_greedy_tokens_and_prompts_that_the_draft_lacks():
    """Prompts hold the target's tokens; the greedy tokens are those of the target."""
    target = joint_law.pair()[0]
    options = {"max_new_tokens": 20, "temperature": 0.0}
    prompts = [[2], [2, 2, 0]]
    expected = rsd_jax.generate(rsd_jax.build_method("ar"), target, None, prompts, **options)
    for kind in DRAFTS:
        method = rsd_jax.build_method("rsd_c", branching=(2, 2))
        found = rsd_jax.generate(method, target, _draft(kind), prompts, **options)
        assert found.tokens == expected.tokens
    with pytest.raises(rsd_jax.ConfigError, match=r"id 3, outside the vocabulary \[0, 3\)"):
        rsd_jax.generate(method, target, _draft(5), [[3]], **options)
