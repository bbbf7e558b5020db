"""Records of blocks: true to what was drafted and decided, and free when nobody asks."""

import jax
import numpy as np
import pytest

import rsd_jax
from rsd_jax.core.types import NO_NODE
from rsd_jax.engine import generation
from rsd_jax.engine.decoding import UNLIMITED, advance
from rsd_jax.engine.job import prepare, start
from rsd_jax.engine.request import Request
from rsd_jax.testing.table_model import reference_warp, table_rows
from tests import joint_law
from tests.compile_meter import compilations
from tests.joint_law import METHODS

PROMPTS = [list(prompt) for prompt in joint_law.PROMPTS]
_OPTIONS = {"max_new_tokens": 25, "temperature": 0.8, "top_p": 0.95, "eos_id": 2, "seed": 4}


def _arguments(name, **changes):
    """The arguments of `generate` and `stream`."""
    method = joint_law.method(name)
    options = _OPTIONS | joint_law.skips(method) | changes
    return (method, *joint_law.pair(), PROMPTS), options


def _decode(name, run=rsd_jax.generate, **changes):
    arguments, options = _arguments(name, **changes)
    return run(*arguments, **options)


@pytest.fixture(
    scope="module",
    params=[
        name for name in METHODS if name not in ("dynamic", "static", "mixed_beam", "self_beam")
    ],
)
def recorded(request):
    """(name, result) of a run with records; some rows end by EOS."""
    return request.param, _decode(request.param, record_blocks=True)


def _check_answers(result):
    """The blocks of each row are consecutive and give the row's tokens and counts."""
    for row, blocks in enumerate(result.block_records):
        assert [record.block for record in blocks] == list(range(result.stats.blocks[row]))
        assert [token for record in blocks for token in record.answer] == result.tokens[row]
        ends = np.cumsum([record.num_accepted + 1 for record in blocks]).tolist()
        assert [record.start for record in blocks] == [0, *ends[:-1]]
        assert all(record.kept == record.num_accepted + 1 for record in blocks[:-1])
        counts = result.stats.accepted_depths[row]
        accepted = [record.num_accepted for record in blocks]
        assert np.bincount(accepted, minlength=len(counts)).tolist() == counts.tolist()


def test_the_answer_is_made_of_the_blocks(recorded):
    name, result = recorded
    plain = _decode(name)
    assert plain.block_records is None
    assert result.tokens == plain.tokens
    assert result.finish_reason == plain.finish_reason
    np.testing.assert_array_equal(result.stats.blocks, plain.stats.blocks)
    _check_answers(result)


def _laws(which, contexts):
    """f64[contexts, V]: the law of target (0) or draft (1) after each context, after the warp."""
    params = jax.device_get(joint_law.pair()[which].params)
    rows = table_rows(joint_law.MODEL, contexts)
    tables = np.asarray(params["tables"]).sum(axis=(0, 1), dtype=np.float32)
    return reference_warp(tables[rows], _OPTIONS["temperature"], None, _OPTIONS["top_p"])


def test_the_tree_is_the_one_that_was_drafted(recorded):
    """Shapes, parents, accepted path, and both models' probabilities, computed from scratch."""
    name, result = recorded
    drafts = not name.startswith(("self_", "swift", "lookup"))
    for prompt, tokens, blocks in zip(PROMPTS, result.tokens, result.block_records, strict=True):
        for record in blocks:
            nodes = np.flatnonzero(record.valid)
            assert nodes[0] == 0
            assert record.parents[0] == NO_NODE
            assert record.depths[nodes[1:]].tolist() == [
                record.depths[record.parents[node]] + 1 for node in nodes[1:]
            ]
            committed = [*prompt, *tokens[: record.start]]
            assert record.tokens[0] == committed[-1]
            contexts = {0: committed}
            for node in nodes[1:]:
                before = contexts[int(record.parents[node])]
                contexts[int(node)] = [*before, int(record.tokens[node])]
            walked = [0, *record.path.tolist()]
            assert record.parents[record.path].tolist() == walked[:-1]
            assert record.valid[record.path].all()
            (law,) = _laws(0, [contexts[walked[-1]]])
            assert record.emitted_prob == pytest.approx(law[record.emitted], abs=1e-5)
            _check_probabilities(record, nodes[1:], contexts, drafts)
            assert [slot for slot, word in enumerate(record.drawn) if word] == nodes[1:].tolist()


def _check_probabilities(record, nodes, contexts, drafts):
    empty = np.ones(len(record.valid), bool)
    empty[nodes] = False
    for probs in (record.draft_probs, record.drawn_probs, record.target_probs):
        assert probs.dtype == np.float32
        np.testing.assert_array_equal(np.isnan(probs), empty)
    if not len(nodes):
        return
    before, tokens = [contexts[int(p)] for p in record.parents[nodes]], record.tokens[nodes]
    each = np.arange(len(nodes))
    np.testing.assert_allclose(
        record.target_probs[nodes], _laws(0, before)[each, tokens], atol=1e-5
    )
    own = record.draft_probs.astype(np.float64)  # 1 for a point mass, whatever the draft's law
    if drafts:
        own[nodes] = _laws(1, before)[each, tokens]
        is_point = [record.drawn[node] == "point" for node in nodes]
        expected = np.where(is_point, 1.0, own[nodes])
        np.testing.assert_allclose(record.draft_probs[nodes], expected, atol=1e-5)
    for node in nodes:
        earlier = [n for n in nodes if n < node and record.parents[n] == record.parents[node]]
        left = 1.0
        if record.drawn[node] == "without_replacement":
            left -= own[earlier].sum()
        expected = 1.0 if record.drawn[node] == "point" else own[node] / left
        assert record.drawn_probs[node] == pytest.approx(expected, rel=1e-3)


def test_siblings_say_how_they_were_drawn():
    for name, temperature, word in (
        ("spectr", 0.8, "iid"),
        ("rsd_c", 0.8, "without_replacement"),
        ("rsd_c", 0.0, "likeliest"),
        ("lookup", 0.0, "point"),
    ):
        result = _decode(name, record_blocks=True, temperature=temperature)
        _check_answers(result)
        records = [record for blocks in result.block_records for record in blocks]
        assert {word for record in records for word in record.drawn} == {"", word}
        if temperature == 0:
            assert all((r.drawn_probs[r.valid][1:] == 1).all() for r in records)


def test_a_long_answer_is_read_in_parts(monkeypatch):
    """Batches, and more blocks than the buffer holds, give the records of one read."""
    whole = _decode("sd", record_blocks=True, eos_id=None)
    monkeypatch.setattr(generation, "MOST_BLOCKS", 3)
    parts = _decode("sd", record_blocks=True, eos_id=None, batch_size=3)
    _check_answers(parts)
    assert parts.tokens == whole.tokens
    for ours, theirs in zip(parts.block_records, whole.block_records, strict=True):
        assert [record.path.tolist() for record in ours] == [r.path.tolist() for r in theirs]
        assert [record.answer for record in ours] == [record.answer for record in theirs]
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one.target_probs, other.target_probs)


def test_streams_hand_out_the_blocks_of_their_tokens():
    reference = _decode("rsd_c", record_blocks=True)
    rows, blocks = [[] for _ in PROMPTS], [[] for _ in PROMPTS]
    for row, new, records in _decode("rsd_c", rsd_jax.stream, record_blocks=True, batch_size=4):
        assert [token for record in records for token in record.answer] == new
        rows[row] += new
        blocks[row] += records
    assert rows == reference.tokens
    for ours, theirs in zip(blocks, reference.block_records, strict=True):
        assert [(r.block, r.start, r.answer) for r in ours] == [
            (r.block, r.start, r.answer) for r in theirs
        ]
    assert all(len(pair) == 2 for pair in _decode("rsd_c", rsd_jax.stream))


def test_a_run_without_records_is_the_same_program():
    """Nothing is compiled anew after a run with records, and the loop lowers to the same text."""
    arguments, options = _arguments("rsd_c")
    job = prepare(*arguments[:3], Request.of(arguments[3], **options))
    state = jax.eval_shape(lambda: start(job, job.batches[0]))

    def lowered():
        return advance.lower(
            job.engine, job.params, state, job.options, np.int32(1), UNLIMITED
        ).as_text()

    before = lowered()
    assert "advance_and_record" not in before
    with compilations() as programs:
        rsd_jax.generate(*arguments, **options)
        list(rsd_jax.stream(*arguments, **options))
    assert "jit(advance_and_record)" not in programs
    with compilations() as programs:
        rsd_jax.generate(*arguments, record_blocks=True, **options)
    with compilations() as programs:
        rsd_jax.generate(*arguments, **options)
        list(rsd_jax.stream(*arguments, **options))
        rsd_jax.generate(*arguments, record_blocks=True, **options | {"max_new_tokens": 9})
    assert programs == []
    jax.clear_caches()
    assert lowered() == before


def test_rows_that_fail_keep_their_records():
    """The block whose logits define no law counts for nothing."""
    target, draft = joint_law.pair()
    tables = target.params["tables"].at[:].set(np.nan)
    broken = rsd_jax.LoadedModel(joint_law.MODEL, {"tables": tables})
    arguments, options = _arguments("rsd_c", record_blocks=True)
    with pytest.raises(rsd_jax.NonFiniteLogitsError) as error:
        rsd_jax.generate(arguments[0], broken, draft, PROMPTS, **options)
    assert error.value.result.block_records == [[]] * len(PROMPTS)
