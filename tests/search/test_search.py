"""The search for a skip set: scores, candidates, adoption, stops, files, and the output law."""

import dataclasses
import functools
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rsd_jax
from rsd_jax.core import skips
from rsd_jax.engine.job import prepare, start
from rsd_jax.engine.request import Request
from rsd_jax.models.llama import LlamaModel
from rsd_jax.search import Candidate, SearchConfig, SearchState, files, generate_with_search
from rsd_jax.search.candidates import propose
from rsd_jax.search.driver import advance, search_through
from rsd_jax.search.matchness import read_matchness
from rsd_jax.testing.joint_law import check_joint_law
from rsd_jax.testing.statistics import ChiSquare
from rsd_jax.testing.table_model import TableModel, sequence_law
from rsd_jax.testing.tiny_llama import TINY_CONFIG, tiny_params
from tests import joint_law, tiny
from tests.compile_meter import compilations
from tests.mutants import search_mutants

LAYERS, SWITCHES = 6, 8
CONFIG = SearchConfig(ratio=0.3, context=5, bayes_every=20, seed=3)
OFTEN = dataclasses.replace(CONFIG, bayes_every=4)
METHOD = tiny.method("swift")
GREEDY = {"max_new_tokens": 24, "temperature": 0.0, "batch_size": 1}


def layered(seed: int = 3, layers: int = LAYERS) -> rsd_jax.LoadedModel:
    config = dataclasses.replace(TINY_CONFIG, num_layers=layers)
    return rsd_jax.LoadedModel(LlamaModel(config), tiny_params(seed, config))


@pytest.fixture(scope="module")
def target() -> rsd_jax.LoadedModel:
    return layered()


@pytest.fixture(scope="module")
def run(target):
    return generate_with_search(
        METHOD, target, tiny.PROMPTS, SearchState.new(target, CONFIG), **GREEDY
    )


def tried(state: SearchState, scores) -> SearchState:
    for score in scores:
        state = state.update(propose(state), score)
    return state


# Matchness.


def _decoded(target, blocks: int):
    """Greedy decoding of all rows, by the programs of `test_a_batch_of_rows_shares_one_search`."""
    options = {"max_new_tokens": 24, "temperature": 0.0}
    job = prepare(METHOD, target, None, Request.of(tiny.PROMPTS, **options))
    state = start(job, job.batches[0])
    return advance(job.engine, job.params, state, job.options, np.int32(blocks))


@functools.partial(jax.jit, static_argnames="model")
def _one_token(model, params, token, position, cache, scratch, skip_set):
    size = scratch.keys[0].shape[2]
    logits, scratch = model.forward(
        params,
        token[None, None],
        position[None, None],
        cache,
        scratch,
        slot=position,
        mask=(jnp.arange(size, dtype=jnp.int32) <= position)[None, None],
        skips=skip_set,
    )
    return jnp.argmax(logits[0, 0]), scratch


def _slow_matchness(target, prompt, response, skip_set) -> float:
    """Token by token: the prompt by the whole model, each response token in draft mode."""
    model, tokens, size = target.model, [*prompt, *response], 16
    cache, scratch, hits = model.init_cache(1, size), model.init_scratch(1, size), []
    for position, token in enumerate(tokens[:-1]):
        of_prompt = position < len(prompt)
        chosen = skips.empty_set(model.num_layers) if of_prompt else skip_set
        likeliest, scratch = _one_token(
            model, target.params, np.int32(token), np.int32(position), cache, scratch, chosen
        )
        if not of_prompt:
            hits.append(int(likeliest) == tokens[position + 1])
    return float(np.mean(hits))


def _expected_score(target, state, row: int, skip_set) -> float:
    first = len(tiny.PROMPTS[row])
    said = np.asarray(state.tokens)[row, first : first + CONFIG.context + 1].tolist()
    return _slow_matchness(target, tiny.PROMPTS[row], said, skip_set)


@pytest.mark.parametrize("blocks", [2, 12])
def test_matchness_equals_a_pass_token_by_token(target, blocks):
    state = _decoded(target, blocks)
    rng, context = np.random.default_rng(0), CONFIG.context
    response = np.asarray(state.length - state.prompt_length)
    usable = np.flatnonzero(~np.asarray(state.done) & (response > context + 1))
    for chosen in (skips.empty_set(LAYERS), *(rng.random((3, LAYERS, 2)) < 0.3)):
        skip_set = jnp.asarray(chosen)
        reading = read_matchness(target.model, target.params, state, skip_set, context)
        assert bool(reading.scored) == bool(usable.size)
        assert bool(reading.all_done) == bool(np.asarray(state.done).all())
        if not usable.size:
            assert float(reading.score) == 0.0
            continue
        expected = _expected_score(target, state, usable[0], chosen)
        assert float(reading.score) == pytest.approx(expected)
        if not chosen.any():
            assert float(reading.score) == 1.0  # a greedy response, drafted by the whole model
    assert blocks == 2 or usable.size


@pytest.mark.parametrize(
    ("done", "short", "row"),
    [
        ([], [], 0),
        ([0], [], 1),
        ([], [0], 1),
        ([1], [0], 2),
        ([0, 2], [1], 3),
        ([0, 1, 2], [3], None),
    ],
)
def test_the_row_scored_is_the_first_unfinished_one_that_is_long_enough(target, done, short, row):
    """A response of C + 1 tokens is one token too short."""
    state, context = _decoded(target, 12), CONFIG.context
    rows = np.arange(len(tiny.PROMPTS))
    long_enough = np.isin(rows, short, invert=True).astype(np.int32)
    state = dataclasses.replace(
        state,
        done=jnp.asarray(np.isin(rows, done)),
        length=state.prompt_length + context + 1 + jnp.asarray(long_enough),
    )
    scores = []
    for chosen in np.random.default_rng(0).random((3, LAYERS, 2)) < 0.3:
        reading = read_matchness(target.model, target.params, state, jnp.asarray(chosen), context)
        assert bool(reading.scored) == (row is not None)
        by_row = [_expected_score(target, state, number, chosen) for number in rows]
        assert float(reading.score) == pytest.approx(0.0 if row is None else by_row[row])
        scores.append(by_row)
    assert len(set(zip(*scores, strict=True))) == len(rows), "rows tell apart"


# Candidates.


def test_candidates_have_the_required_size_and_follow_from_the_state(target):
    state = SearchState.new(target, OFTEN)
    seen, other = [], SearchState.new(target, dataclasses.replace(OFTEN, seed=4))
    for number in range(1, 9):
        candidate, again = propose(state), propose(state)
        np.testing.assert_array_equal(candidate.point, again.point)
        assert candidate.switches.sum() == int(SWITCHES * CONFIG.ratio)
        assert candidate.suggested == (number % OFTEN.bayes_every == 0)
        assert not candidate.skips[[0, -1]].any()
        if candidate.suggested:
            largest = np.argsort(-candidate.point, kind="stable")[: candidate.switches.sum()]
            np.testing.assert_array_equal(np.sort(largest), np.flatnonzero(candidate.switches))
            assert ((candidate.point >= 0) & (candidate.point <= 1)).all()
        else:
            np.testing.assert_array_equal(candidate.point, candidate.switches)
        np.testing.assert_array_equal(state.points, seen or np.zeros((0, SWITCHES)))
        seen.append(candidate.point)
        state = state.update(candidate, 0.1 * number)
        other = other.update(propose(other), 0.1 * number)
    assert len({point.tobytes() for point in seen}) > 3
    assert not np.array_equal(state.points, other.points)


def test_suggestions_learn_from_scores(target):
    """Sets without the first two switches score better: suggestions leave them out."""
    config = dataclasses.replace(CONFIG, bayes_every=30)
    state = SearchState.new(target, config)
    for _ in range(29):
        candidate = propose(state)
        state = state.update(candidate, 1.0 - 0.4 * candidate.switches[:2].sum())
    assert not propose(state).switches[:2].any()


def test_without_the_package_the_error_says_what_to_do(target, monkeypatch):
    monkeypatch.setitem(sys.modules, "bayes_opt", None)
    state = tried(SearchState.new(target, OFTEN), [0.1] * 3)
    with pytest.raises(rsd_jax.ConfigError, match=r"bayesian-optimization.*bayes_every"):
        propose(state)


# Adoption and stops.


def test_a_strictly_better_candidate_is_adopted(target):
    state = SearchState.new(target, CONFIG)
    np.testing.assert_array_equal(state.skips, skips.start_set(LAYERS))
    candidate = propose(state)
    same = state.update(candidate, 0.0)
    np.testing.assert_array_equal(same.skips, state.skips)
    assert (same.since_adopted, same.iterations, same.best_score) == (1, 1, 0.0)
    better = same.update(candidate, 0.25)
    np.testing.assert_array_equal(better.skips, candidate.skips)
    assert (better.since_adopted, better.iterations, better.best_score) == (0, 2, 0.25)
    tie = better.update(propose(better), 0.25)
    np.testing.assert_array_equal(tie.skips, candidate.skips)
    assert state.iterations == 0  # nothing is changed in place


def test_stop_rules(target):
    config = dataclasses.replace(CONFIG, bayes_every=10**6, max_tolerance=3, max_iterations=6)
    state = SearchState.new(target, config)
    assert tried(state, [0.95]).stopped is None
    assert tried(state, [0.951]).stopped == "score"
    assert tried(state, [0.5, 0.5, 0.5, 0.5]).stopped is None
    assert tried(state, [0.5, 0.5, 0.5, 0.5, 0.5]).stopped == "tolerance"
    rising = [0.1 * i for i in range(1, 7)]
    assert tried(state, rising).stopped is None
    assert tried(state, [*rising, 0.7]).stopped == "iterations"


def test_published_settings():
    config = SearchConfig()
    assert (config.ratio, config.context, config.opt_interval, config.bayes_every) == (
        0.45,
        32,
        1,
        25,
    )
    assert (config.kappa, config.max_score, config.max_tolerance, config.max_iterations) == (
        2.5,
        0.95,
        300,
        1000,
    )


# Decoding meanwhile.


def test_tokens_are_the_targets_and_scores_rise(target, run):
    greedy = rsd_jax.generate(rsd_jax.build_method("ar"), target, None, tiny.PROMPTS, **GREEDY)
    assert run.result.tokens == greedy.tokens
    assert len(run.iterations) == run.state.iterations == sum(i.iterations for i in run.instances)
    assert run.state.iterations >= 20
    best = np.maximum.accumulate([0.0, *(i.score for i in run.iterations)])
    np.testing.assert_array_equal(np.diff(best) > 0, [i.adopted for i in run.iterations])
    assert run.state.best_score == best[-1] > 0
    assert [n for n, i in enumerate(run.iterations, 1) if i.suggested][:1] == [CONFIG.bayes_every]
    assert [instance.best_score for instance in run.instances] == sorted(
        instance.best_score for instance in run.instances
    )
    passes = [sum(instance.draft_passes.values()) for instance in run.instances]
    np.testing.assert_array_equal(passes, run.result.stats.drafted)
    sets = {skipped for instance in run.instances for skipped in instance.draft_passes}
    assert (2, 2) in sets, "the start set of six layers"
    assert all(sum(skipped) == 2 for skipped in sets - {(2, 2)})
    for instance, tokens in zip(run.instances, run.result.tokens, strict=True):
        assert instance.tokens == len(tokens)
        assert instance.host_reads == instance.steps + 1
        assert max(instance.draft_passes.values()) > 0
        assert 0 < sum(instance.seconds.values()) <= instance.total_seconds
        assert min(instance.seconds[phase] for phase in ("prefill", "decode", "matchness")) > 0


def test_a_search_is_deterministic_and_compiles_nothing_new(target, run):
    with compilations() as programs:
        again = generate_with_search(
            METHOD, target, tiny.PROMPTS, SearchState.new(target, CONFIG), **GREEDY
        )
    assert not programs
    assert again.iterations == run.iterations
    np.testing.assert_array_equal(again.state.points, run.state.points)


def test_a_saved_search_goes_on_as_if_it_had_not_been(target, run, tmp_path):
    file, state, iterations = tmp_path / "search.json", SearchState.new(target, CONFIG), []
    for row, prompt in enumerate(tiny.PROMPTS):
        part = generate_with_search(METHOD, target, [prompt], state, request_ids=[row], **GREEDY)
        part.state.save(file)
        state = SearchState.load(file, target)
        iterations += [dataclasses.replace(i, instance=row) for i in part.iterations]
    assert iterations == run.iterations
    for name in ("points", "scores", "switches"):
        np.testing.assert_array_equal(getattr(state, name), getattr(run.state, name))
    assert state.config == CONFIG


def test_a_found_set_is_used_with_the_search_off(target, run):
    """With a stopped search there is one call per batch, with the tokens of `generate`."""
    over = dataclasses.replace(run.state, best_score=0.96)
    options = GREEDY | {"temperature": 1.0}
    off = generate_with_search(METHOD, target, tiny.PROMPTS, over, **options)
    assert off.iterations == []
    assert [(i.steps, i.host_reads) for i in off.instances] == [(1, 1)] * 4
    assert off.instances[0].seconds["matchness"] == off.instances[0].seconds["suggest"] == 0.0
    plain = rsd_jax.generate(METHOD, target, None, tiny.PROMPTS, skips=over.skips, **options)
    assert off.result.tokens == plain.tokens


def test_a_batch_of_rows_shares_one_search(target):
    run = generate_with_search(
        METHOD,
        target,
        tiny.PROMPTS,
        SearchState.new(target, CONFIG),
        **GREEDY | {"batch_size": None},
    )
    greedy = rsd_jax.generate(rsd_jax.build_method("ar"), target, None, tiny.PROMPTS, **GREEDY)
    assert run.result.tokens == greedy.tokens
    assert len(run.instances) == 1
    assert run.state.iterations > 0


def test_a_candidate_that_leaves_its_keys_in_the_cache_is_seen(target):
    """The check of `test_a_batch_of_rows_shares_one_search` detects it."""
    job = prepare(
        METHOD, target, None, Request.of(tiny.PROMPTS, max_new_tokens=24, temperature=0.0)
    )
    faulty = search_mutants.DraftModeKeysKept(CONFIG.context)
    run = search_through(job, SearchState.new(target, CONFIG), faulty)
    greedy = rsd_jax.generate(rsd_jax.build_method("ar"), target, None, tiny.PROMPTS, **GREEDY)
    assert run.result.tokens != greedy.tokens


# The set changes between the blocks of a response; its law does not depend on that.

WHILE_SEARCHING = {"self_rsd_c": {"branching": (2,)}, "swift": joint_law.METHODS["swift"]}
ROWS, NEW = 16384, 10


@functools.cache
def table_and_laws() -> tuple[rsd_jax.LoadedModel, list[np.ndarray]]:
    model = TableModel(num_layers=LAYERS)
    params = model.init_params(jax.random.key(0), scale=1.5)
    laws = [sequence_law(model, params, list(p), NEW) for p in joint_law.PROMPTS]
    return rsd_jax.LoadedModel(model, params), laws


def law_while_searching(name: str, advance=advance) -> tuple[ChiSquare, np.ndarray]:
    """The test of all rows, and the number of sets that each row was drafted with, i64[ROWS]."""
    table, laws = table_and_laws()
    config = SearchConfig(ratio=0.4, context=4, bayes_every=10**6, max_score=1.0, seed=6)
    prompts = [joint_law.PROMPTS[row % 4] for row in range(ROWS)]
    method = rsd_jax.build_method(name, **WHILE_SEARCHING[name])
    job = prepare(method, table, None, Request.of(prompts, max_new_tokens=NEW))
    sets: dict[bytes, np.ndarray] = {}  # rows that were decoded with each

    def watched(engine, params, state, options, blocks):
        used = np.asarray(params.skips).tobytes()
        sets[used] = sets.get(used, False) | ~np.asarray(state.done)
        return advance(engine, params, state, options, blocks)

    run = search_through(job, SearchState.new(table, config), watched)
    tokens = np.asarray(run.result.tokens)
    check = check_joint_law([tokens[i::4] for i in range(4)], laws, false_alarm=1e-6)
    return check, np.sum(list(sets.values()), axis=0)


@pytest.mark.parametrize("name", WHILE_SEARCHING)
def test_the_joint_law_while_searching(name):
    """At least three sets draft every response; 4096 samples per prompt, false-alarm rate 1e-6."""
    check, sets = law_while_searching(name)
    assert check.passed, check
    assert sets.min() >= 3


def test_a_set_that_changes_inside_a_block_is_seen():
    """The law of 10 tokens is off by a TV of about .18."""
    check, sets = law_while_searching("self_rsd_c", search_mutants.SetChangedInsideBlocks())
    assert not check.passed
    assert sets.min() >= 3


# Bad input.


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ratio": 1.0}, r"skip ratio 1.0 must lie in \[0, 1\)"),
        ({"ratio": -0.1}, "skip ratio -0.1"),
        ({"context": 0}, "context=0 must be an integer of at least 1"),
        ({"opt_interval": 0.5}, "opt_interval=0.5"),
        ({"max_tolerance": -1}, "max_tolerance=-1"),
        ({"kappa": "high"}, "kappa='high'"),
        ({"seed": None}, "seed=None"),
    ],
)
def test_bad_settings(changes, message):
    with pytest.raises(rsd_jax.ConfigError, match=message):
        SearchConfig(**changes)


def test_bad_models_and_methods(target):
    with pytest.raises(rsd_jax.ConfigError, match="a model of 2 layers"):
        SearchState.new(tiny.pair()[0])
    state, options = SearchState.new(target, CONFIG), {"max_new_tokens": 4}
    with pytest.raises(rsd_jax.ConfigError, match="'ar' does not draft with its target"):
        generate_with_search(rsd_jax.build_method("ar"), target, [[1]], state, **options)
    other = layered(seed=4)
    with pytest.raises(rsd_jax.ConfigError, match="of another model: weights '"):
        generate_with_search(METHOD, other, [[1]], state, **options)


def test_files_of_other_models_and_corrupt_ones(target, tmp_path):
    file = tmp_path / "search.json"
    state = tried(SearchState.new(target, CONFIG), [0.25, 0.5])
    state.save(file)
    assert SearchState.load(file, target).best_score == 0.5
    for model, named in ((layered(seed=4), "weights"), (layered(layers=5), "num_layers 6 .*5")):
        with pytest.raises(rsd_jax.ConfigError, match=f"of another model.*{named}"):
            SearchState.load(file, model)
    text = file.read_text(encoding="utf-8")

    def load(changed: str):
        file.write_text(changed, encoding="utf-8")
        return SearchState.load(file, target)

    with pytest.raises(rsd_jax.ConfigError, match="is corrupt"):
        load(text[: len(text) // 2])
    with pytest.raises(rsd_jax.ConfigError, match="checksum differs"):
        load(text.replace('"best_score": 0.5', '"best_score": 0.9'))
    with pytest.raises(rsd_jax.ConfigError, match=r"is corrupt .expected an object, got list"):
        load("[]")
    with pytest.raises(rsd_jax.ConfigError, match="is not a file of"):
        load("{}")
    with pytest.raises(rsd_jax.ConfigError, match="of version 7"):
        load(text.replace('"version": 1', '"version": 7'))
    fields = json.loads(text)["search"]
    for broken in ({"iterations": 7}, {"config": {"ratio": 2.0}}, {"switches": [0.0]}, {"new": 1}):
        files.write(file, fields | broken)
        with pytest.raises(rsd_jax.ConfigError, match="is corrupt"):
            SearchState.load(file, target)
    with pytest.raises(rsd_jax.ConfigError, match="cannot read the search"):
        SearchState.load(tmp_path / "missing.json", target)
    assert isinstance(propose(state), Candidate)
