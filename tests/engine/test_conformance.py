"""Every registered drafter and verifier, and the parts of `tests.parts`, in every pair that fits.

Parts are built from the types of their fields, so that a new part is tested once it is registered.
"""

import dataclasses
import functools

import jax
import numpy as np
import pytest

import rsd_jax
from rsd_jax.core.tree import SiblingLaw, TreeShape
from rsd_jax.core.types import NEVER
from rsd_jax.drafters import DRAFTERS, TREE_RULES
from rsd_jax.drafters.independent_chains import IndependentChains
from rsd_jax.engine import decoding, phases
from rsd_jax.engine.job import prepare, start
from rsd_jax.engine.methods import method_of_tree
from rsd_jax.engine.request import Request
from rsd_jax.testing.validation import validate_tree
from rsd_jax.verifiers import VERIFIERS
from tests import joint_law, parts
from tests.small_parts import every, fits

FALSE_ALARM = 1e-6 / 60  # tests of a law in this file
NUM_TOKENS = 5
BATCH = 4096
ALL_DRAFTERS = DRAFTERS | parts.DRAFTERS
ALL_VERIFIERS = VERIFIERS | parts.VERIFIERS


PAIRS = [
    rsd_jax.Method("conformance", drafter, verifier)
    for drafter in every(ALL_DRAFTERS)
    for verifier in every(ALL_VERIFIERS)
    if fits(verifier, drafter)
]
"""All pairs that fit, as methods."""


def covering(pairs: list[rsd_jax.Method], *features) -> list[rsd_jax.Method]:
    """A few pairs, chosen greedily, that together have every value of every feature."""
    shown = {
        index: {(i, feature(pair)) for i, feature in enumerate(features)}
        for index, pair in enumerate(pairs)
    }
    missing, kept = set().union(*shown.values()), []
    while missing:
        best = max(shown, key=lambda index: len(shown[index] & missing))
        kept.append(pairs[best])
        missing -= shown[best]
    return kept


def rule(pair: rsd_jax.Method):
    return getattr(pair.drafter, "rule", type(pair.drafter))


ONE_PER_DRAFTER = covering(PAIRS, lambda pair: pair.drafter)
# A verifier knows a drafter only by how siblings were drawn: every such law meets every verifier
# that fits, and every drafter meets one.
MEETINGS = covering(
    PAIRS,
    lambda pair: (SiblingLaw.carried(pair.drafter.sibling_laws), pair.verifier),
    lambda pair: pair.drafter,
)
ONE_PER_CLASS = covering(PAIRS, lambda pair: type(pair.drafter), rule)
ONE_PER_VERIFIER = covering(PAIRS, lambda pair: pair.verifier)


def name(method: rsd_jax.Method) -> str:
    return f"{method.drafter}-{method.verifier}"


def _prepared(method: rsd_jax.Method, temperature: float = 1.0):
    """A job, and the state after prefill; prefill does not depend on the verifier."""
    prompts = [joint_law.PROMPTS[row % 4] for row in range(BATCH)]
    options = {"max_new_tokens": NUM_TOKENS, "temperature": temperature}
    options |= joint_law.skips(method)
    job = prepare(method, *joint_law.pair(), Request.of(prompts, **options))
    fitting = [pair.verifier for pair in PAIRS if pair.drafter == method.drafter]
    engine = dataclasses.replace(job.engine, verifier=fitting[0])
    return job, start(dataclasses.replace(job, engine=engine), job.batches[0])


def _new_tokens(job, state) -> np.ndarray:
    state = decoding.advance(
        job.engine, job.params, state, job.options, np.int32(100), decoding.UNLIMITED
    )
    assert np.asarray(state.failed_block == NEVER).all()
    tokens, first = np.asarray(state.tokens), np.asarray(state.prompt_length)
    return np.take_along_axis(tokens, first[:, None] + np.arange(NUM_TOKENS)[None], axis=1)


_draft = jax.jit(phases.draft, static_argnums=0)


@pytest.mark.parametrize("part", [*every(ALL_DRAFTERS), *every(ALL_VERIFIERS)], ids=str)
def test_parts_are_static(part):
    assert dataclasses.is_dataclass(part)
    assert part == dataclasses.replace(part)
    assert hash(part) == hash(dataclasses.replace(part))
    leaves = jax.tree.leaves(dataclasses.asdict(part))
    assert not any(isinstance(leaf, (np.ndarray, jax.Array)) for leaf in leaves)
    if dataclasses.fields(part):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(part, dataclasses.fields(part)[0].name, None)


@pytest.mark.parametrize("method", MEETINGS, ids=name)
def test_a_pair_is_lossless(method):
    job, state = _prepared(method)
    carried = jax.eval_shape(
        functools.partial(phases.block, job.engine), job.params, state, job.options
    )
    assert jax.tree.map(_signature, carried) == jax.tree.map(_signature, state)
    tokens = _new_tokens(job, state)
    checks = joint_law.check(tokens, false_alarm=FALSE_ALARM)
    assert all(check.passed for check in checks), checks


def _signature(leaf) -> tuple:
    return leaf.shape, leaf.dtype


@pytest.mark.parametrize("method", ONE_PER_DRAFTER, ids=name)
def test_a_drafter_is_greedy_at_temperature_0(method):
    tokens = _new_tokens(*_prepared(method, temperature=0.0))
    for prompt in range(4):
        law = joint_law.law(prompt, NUM_TOKENS, temperature=0.0)
        (path,) = np.argwhere(law == 1)
        assert (tokens[prompt::4] == path).all()


@pytest.mark.parametrize("method", ONE_PER_DRAFTER, ids=name)
def test_its_trees_are_valid(method):
    job, state = _prepared(method)
    tree, _ = _draft(job.engine, job.params, state, job.options)
    assert tree.shape == method.drafter.shape
    assert tree.siblings is SiblingLaw.carried(method.drafter.sibling_laws)
    validate_tree(tree, joint_law.MODEL.vocab_size)


def test_a_compiled_block_equals_an_eager_one():
    job, state = _prepared(ONE_PER_CLASS[0])
    eager = _on_host(phases.block(job.engine, job.params, state, job.options))
    compiled = decoding.advance(
        job.engine, job.params, state, job.options, np.int32(1), decoding.UNLIMITED
    )
    jax.tree.map(np.testing.assert_array_equal, eager, _on_host(compiled))


@pytest.mark.parametrize("method", ONE_PER_CLASS, ids=name)
def test_a_compiled_drafter_equals_an_eager_one(method):
    """The structure of its trees; laws may differ by rounding."""
    job, state = _prepared(method)
    eager, compiled = (
        f(job.engine, job.params, state, job.options)[0] for f in (phases.draft, _draft)
    )
    for field in ("tokens", "parents", "valid"):
        np.testing.assert_array_equal(getattr(eager, field), getattr(compiled, field))


@pytest.mark.parametrize("method", ONE_PER_VERIFIER, ids=name)
def test_a_compiled_verifier_equals_an_eager_one(method):
    job, state = _prepared(method)
    tree, state = _draft(job.engine, job.params, state, job.options)
    logits, state = jax.jit(phases.score, static_argnums=0)(job.engine, job.params, state, tree)
    arguments = (job.engine, state, tree, logits, job.options)
    eager = phases.verify(*arguments)
    compiled = jax.jit(phases.verify, static_argnums=0)(*arguments)
    jax.tree.map(np.testing.assert_array_equal, _on_host(eager), _on_host(compiled))


def _on_host(value):
    if hasattr(value, "row_keys"):
        value = value.replace(row_keys=jax.random.key_data(value.row_keys))
    return jax.device_get(value)


def test_all_layers_as_their_own_draft_are_accepted_whole():
    """The self-pair test of a drafter that reads the target's cache."""
    drafter = parts.DRAFTERS["first_layers"](TREE_RULES["constant_branching"]((2, 2)), layers=2)
    method = rsd_jax.Method("self", drafter, VERIFIERS["recursive_rejection"]())
    prompts = [list(prompt) for prompt in joint_law.PROMPTS]
    stats = rsd_jax.generate(method, joint_law.pair()[0], None, prompts, max_new_tokens=20).stats
    assert (stats.blocks >= 5).all()
    np.testing.assert_array_equal(stats.accepted_depths[:, -1], stats.blocks)


class _IndependentTree(IndependentChains):
    """A rule that claims to draw i.i.d. siblings at every level."""

    @property
    def shape(self):
        return TreeShape.from_branching((2, 2))


def test_k_seq_takes_chains_only():
    """K-SEQ counts drafts, so it would verify i.i.d. trees of other shapes wrongly."""
    drafter = DRAFTERS["model"](_IndependentTree(2, 2))
    with pytest.raises(rsd_jax.ConfigError, match=r"independent chains.*\(2, 2\)"):
        rsd_jax.Method("wrong", drafter, VERIFIERS["k_seq"]())


def test_parts_that_do_not_fit_are_refused():
    drafter = DRAFTERS["model"](TREE_RULES["constant_branching"]((2, 2)))
    expected = r"draws siblings as \['without_replacement'\].*lossless only for \['iid', 'none'\]"
    with pytest.raises(rsd_jax.ConfigError, match=expected):
        rsd_jax.Method("wrong", drafter, VERIFIERS["k_seq"]())
    with pytest.raises(rsd_jax.ConfigError, match="single"):
        rsd_jax.Method("wrong", drafter, parts.VERIFIERS["block_verification"]())
    with pytest.raises(rsd_jax.ConfigError, match=r"siblings as \['mixed'\]"):
        rsd_jax.Method("wrong", parts.DRAFTERS["likeliest_first"](), VERIFIERS["k_seq"]())


@pytest.mark.parametrize("rule", every(TREE_RULES), ids=str)
def test_a_rule_makes_a_method_that_its_words_name(rule):
    """A chain is written by its length for every rule."""
    if rule.shape.max_siblings > 1:
        assert method_of_tree(rule.method, rule.words).drafter == DRAFTERS["model"](rule)
        assert method_of_tree(f"self_{rule.method}", rule.words).tree == rule.words
    else:
        assert rule.words == str(rule.shape.depth)
