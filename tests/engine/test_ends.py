"""Ends of rows: EOS and max_new_tokens inside a block, and logits that define no law."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rsd_jax
from rsd_jax.engine import phases
from rsd_jax.testing.joint_law import check_joint_law
from rsd_jax.testing.table_model import TableModel, table_rows
from rsd_jax.verifiers import Reads
from tests import joint_law
from tests.mutants import engine_mutants

FALSE_ALARM = 1e-8
EOS = 2
SD = rsd_jax.build_method("sd", length=2)
AR = rsd_jax.build_method("ar")


def sample(eos_id, max_new_tokens: int = joint_law.NUM_TOKENS) -> rsd_jax.GenerateResult:
    return joint_law.sample(SD, rounds=1, eos_id=eos_id, max_new_tokens=max_new_tokens)


def check_ends(result: rsd_jax.GenerateResult, eos: tuple[int, ...], limit: int) -> None:
    """Outputs end with the first EOS or at the limit, and `finish_reason` says which."""
    assert result.num_tokens.tolist() == [len(tokens) for tokens in result.tokens]
    for tokens, reason in zip(result.tokens, result.finish_reason, strict=True):
        ended = [token in eos for token in tokens]
        assert not any(ended[:-1]), "tokens after an EOS"
        assert len(tokens) <= limit
        assert reason == ("eos" if ended[-1] else "length")
        assert reason == "eos" or len(tokens) == limit


def law_of_cut_outputs_holds(result: rsd_jax.GenerateResult, eos: int, limit: int) -> bool:
    """Tests outputs, padded with EOS, against the enumerated law of padded outputs."""
    filled = np.full((len(result.tokens), limit), eos)
    for row, tokens in enumerate(result.tokens):
        filled[row, : len(tokens)] = tokens[:limit]
    paths = np.stack(np.unravel_index(np.arange(3**limit), (3,) * limit), axis=1)
    after = np.cumsum(paths == eos, axis=1) > 0
    cell = np.where(after, eos, paths) @ 3 ** np.arange(limit - 1, -1, -1)
    groups, laws = [], []
    for prompt in range(len(joint_law.PROMPTS)):
        full = joint_law.law(prompt, limit).reshape(-1)
        laws.append(np.bincount(cell, weights=full, minlength=3**limit).reshape((3,) * limit))
        groups.append(filled[prompt :: len(joint_law.PROMPTS)])
    return check_joint_law(groups, laws, false_alarm=FALSE_ALARM).passed


@pytest.mark.parametrize("limit", [4, 5, 7])
def test_eos_inside_a_block(limit):
    result = sample(EOS, limit)
    check_ends(result, (EOS,), limit)
    assert law_of_cut_outputs_holds(result, EOS, limit)
    assert {"eos", "length"} == set(result.finish_reason)
    # An EOS cuts what a block produces, the limit does not.
    stats, at_eos = result.stats, np.asarray(result.finish_reason) == "eos"
    whole = stats.accepted_depths @ np.arange(1, 4)
    np.testing.assert_array_equal(stats.produced[at_eos], result.num_tokens[at_eos])
    assert (stats.produced[at_eos] < whole[at_eos]).mean() > 0.1, "EOS in the middle of a block"
    assert (result.num_tokens <= stats.produced).all()
    assert (stats.produced <= whole).all()
    np.testing.assert_array_equal(stats.accepted_depths.sum(axis=1), stats.blocks)


def test_the_limit_inside_a_block():
    result = sample(None, 4)
    check_ends(result, (), 4)
    assert set(result.finish_reason) == {"length"}
    whole = result.stats.accepted_depths @ np.arange(1, 4)
    np.testing.assert_array_equal(result.stats.produced, whole)
    assert (whole > 4).mean() > 0.2
    efficiency = result.stats.produced.sum() / result.stats.blocks.sum()
    assert result.stats.block_efficiency == pytest.approx(efficiency)


def test_several_eos_ids():
    result = sample([0, EOS])
    check_ends(result, (0, EOS), joint_law.NUM_TOKENS)
    assert sample([EOS, EOS]).tokens == sample(EOS).tokens
    assert sample([0, 1, 2], 7).num_tokens.tolist() == [1] * joint_law.BATCH


@pytest.mark.parametrize(
    ("mutant", "eos_id", "limit"),
    [
        (engine_mutants.eos_at_block_ends_only, EOS, 7),
        (engine_mutants.limit_at_block_ends_only, None, 4),
        (engine_mutants.limit_before_eos, EOS, 4),
    ],
)
def test_faulty_ends_are_seen(mutant, eos_id, limit):
    with mutant():
        result = sample(eos_id, limit)
    with pytest.raises(AssertionError):
        check_ends(result, (EOS,) if eos_id else (), limit)


# Logits that are no law. The models of four small rows; one of the rows meets bad numbers.

MODEL = TableModel()
PROMPTS = [list(prompt) for prompt in joint_law.PROMPTS]
BAD_ROW = 2


def spoiled(model: rsd_jax.LoadedModel, contexts, value: float = np.nan) -> rsd_jax.LoadedModel:
    """The model with `value` for all logits after the contexts."""
    tables = np.array(model.params["tables"])
    tables[:, :, table_rows(MODEL, contexts)] = value
    return rsd_jax.LoadedModel(MODEL, {"tables": jax.numpy.asarray(tables)})


def contexts_after(prompt: list[int], num_tokens: int) -> list[list[int]]:
    tails = np.stack(np.unravel_index(np.arange(3**num_tokens), (3,) * num_tokens), axis=1)
    return [prompt + tail.tolist() for tail in tails]


def decode(method, target, draft, **options):
    return rsd_jax.generate(method, target, draft, PROMPTS, max_new_tokens=6, **options)


@pytest.mark.parametrize("temperature", [1.0, 0.0])
@pytest.mark.parametrize("value", [np.nan, -np.inf])
@pytest.mark.parametrize("method", [AR, SD], ids=["ar", "sd"])
def test_bad_target_logits_name_row_and_block(method, value, temperature):
    target, draft = joint_law.pair()
    clean = decode(method, target, draft, temperature=temperature)
    bad = spoiled(target, contexts_after(PROMPTS[BAD_ROW], 2), value)
    with pytest.raises(rsd_jax.NonFiniteLogitsError) as caught:
        decode(method, bad, draft, temperature=temperature)
    error, result = caught.value, caught.value.result
    (block,) = error.rows.values()
    assert list(error.rows) == [BAD_ROW]
    assert f"row {BAD_ROW} in block {block}" in str(error)
    assert result.finish_reason == ["length", "length", "error", "length"]
    kept = result.num_tokens[BAD_ROW]
    assert result.stats.blocks[BAD_ROW] == block
    assert (kept, block) == (2, 2) if method is AR else kept <= 2
    assert result.tokens[BAD_ROW] == clean.tokens[BAD_ROW][:kept]
    for row in {0, 1, 3}:
        assert result.tokens[row] == clean.tokens[row]


def test_bad_draft_logits_are_an_error():
    target, draft = joint_law.pair()
    bad = spoiled(draft, contexts_after(PROMPTS[BAD_ROW], 1))
    with pytest.raises(rsd_jax.NonFiniteLogitsError) as caught:
        decode(SD, target, bad)
    assert caught.value.rows == {BAD_ROW: 0}
    assert caught.value.result.tokens[BAD_ROW] == []


def test_errors_of_several_batches_are_collected():
    target, draft = joint_law.pair()
    bad = spoiled(target, [PROMPTS[0], PROMPTS[3]])
    with pytest.raises(rsd_jax.NonFiniteLogitsError) as caught:
        rsd_jax.generate(AR, bad, draft, PROMPTS * 2, max_new_tokens=6, batch_size=4)
    assert caught.value.rows == {0: 0, 3: 0, 4: 0, 7: 0}
    assert [len(tokens) for tokens in caught.value.result.tokens] == [0, 6, 6, 0] * 2


def test_a_stream_hands_out_what_there_is_and_then_raises():
    target, draft = joint_law.pair()
    bad = spoiled(target, [PROMPTS[0]])
    rows = [[] for _ in PROMPTS]

    def read() -> None:
        for row, new in rsd_jax.stream(AR, bad, draft, PROMPTS, max_new_tokens=6):
            rows[row] += new

    with pytest.raises(rsd_jax.NonFiniteLogitsError) as caught:
        read()
    assert rows == caught.value.result.tokens
    assert list(map(len, rows)) == [0, 6, 6, 6]


def test_rows_that_are_done_may_meet_anything():
    """The batch goes on after a row's EOS; later logits of this row have no effect."""
    target, _ = joint_law.pair()
    ends = [context for context in contexts_after(PROMPTS[BAD_ROW], 1) if context[-1] == EOS]
    bad = spoiled(target, [*ends, *(e + t for e in ends for t in ([0], [1], [2]))])
    draws = [decode(AR, bad, None, seed=seed, eos_id=EOS) for seed in range(32)]
    assert any(d.tokens[BAD_ROW] == [EOS] and d.stats.blocks.max() > 2 for d in draws)


@pytest.mark.parametrize("temperature", [1.0, 0.0])
def test_laws_behind_the_end_of_a_row_may_be_anything(temperature):
    """Logits of nodes after the limit, or after an accepted EOS, have no effect."""
    target, draft = joint_law.pair()
    for prompt in PROMPTS:
        target = spoiled(target, contexts_after(prompt, 2))
    clean = joint_law.pair()[0]
    options = {"max_new_tokens": 2, "temperature": temperature}
    expected = rsd_jax.generate(SD, clean, draft, PROMPTS, **options)
    assert rsd_jax.generate(SD, target, draft, PROMPTS, **options).tokens == expected.tokens
    assert (expected.stats.produced > 2).any(), "no block ran over the limit"

    behind = [context for context in contexts_after(PROMPTS[BAD_ROW], 1) if context[-1] == EOS]
    bad = spoiled(clean, behind)
    over = [decode(SD, bad, draft, seed=seed, eos_id=EOS, temperature=1.0) for seed in range(32)]
    accepted = [r.stats.accepted_depths[BAD_ROW, 1:].any() for r in over if _only_eos(r)]
    assert any(accepted), "no EOS was accepted, so nothing behind one was scored"


def _only_eos(result: rsd_jax.GenerateResult) -> bool:
    return result.tokens[BAD_ROW] == [EOS]


def test_nodes_that_are_not_valid_may_have_anything():
    """With draft_top_k = 1 a node has one child, so the slot of a sibling is not valid."""
    target, draft = joint_law.pair()
    likely = spoiled(draft, [PROMPTS[BAD_ROW]], 0.0)
    tables = np.array(likely.params["tables"])
    tables[0, 0, table_rows(MODEL, [PROMPTS[BAD_ROW]])] = [9.0, 0.0, 0.0]
    likely = rsd_jax.LoadedModel(MODEL, {"tables": jax.numpy.asarray(tables)})
    bad = spoiled(likely, [[*PROMPTS[BAD_ROW], token] for token in (1, 2)])

    def one_block(draft_top_k):
        method = rsd_jax.build_method("rsd_c", branching=(2, 1), draft_top_k=draft_top_k)
        return rsd_jax.generate(method, target, bad, PROMPTS, max_new_tokens=1, top_k=3)

    one_block(draft_top_k=1)
    with pytest.raises(rsd_jax.NonFiniteLogitsError):
        one_block(draft_top_k=3)


def test_bad_logits_taken_for_a_token_are_seen():
    target, draft = joint_law.pair()
    bad = spoiled(target, contexts_after(PROMPTS[BAD_ROW], 2))
    with (
        engine_mutants.non_finite_accepted(),
        pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"),
        pytest.raises(rsd_jax.NonFiniteLogitsError),
    ):
        decode(SD, bad, draft)


@pytest.mark.parametrize(("reads", "fails"), [(Reads.REACHED, False), (Reads.VALID, True)])
def test_a_bad_law_behind_the_end_of_a_row(reads, fails):
    """A walk does not need the law after an EOS; a verifier that reads all valid nodes does."""
    row = types.SimpleNamespace(
        done=jnp.asarray([False]), length=jnp.asarray([4]), limit=jnp.asarray([100])
    )
    tree = types.SimpleNamespace(finite=jnp.asarray([True]))
    result = types.SimpleNamespace(finite=jnp.asarray([False]), num_accepted=jnp.asarray([2]))
    block = types.SimpleNamespace(
        tokens=jnp.asarray([[5, 1, 7]]),
        is_eos=jnp.asarray([[False, True, False]]),
    )
    assert phases._failed(reads, row, tree, result, block).tolist() == [fails]
