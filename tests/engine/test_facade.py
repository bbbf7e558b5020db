"""The public functions: bad input, results, and programs that are used again."""

import collections
import dataclasses
import inspect
import re

import jax
import numpy as np
import pytest

import rsd_jax
from rsd_jax.engine.request import Request, RequestOptions, Sampling
from rsd_jax.search import generate_with_search
from rsd_jax.testing.table_model import TableModel
from tests import joint_law, tiny
from tests.compile_meter import compilations

PROMPTS = [list(prompt) for prompt in joint_law.PROMPTS]
SD = rsd_jax.build_method("sd", length=2)


def decode(**changes) -> rsd_jax.GenerateResult:
    target, draft = joint_law.pair()
    arguments = {
        "method": SD,
        "target": target,
        "draft": draft,
        "prompts": PROMPTS,
        "max_new_tokens": 8,
    }
    return rsd_jax.generate(**arguments | changes)


def test_the_surface():
    assert sorted(rsd_jax.__all__) == list(rsd_jax.__all__)
    assert {"build_method", "generate", "load_model", "load_pair", "stream"} <= set(rsd_jax.__all__)
    expected = {
        "max_new_tokens": inspect.Parameter.empty,
        "temperature": 1.0,
        "top_k": None,
        "top_p": 1.0,
        "seed": 0,
        "request_ids": None,
        "eos_id": None,
        "batch_size": None,
        "capacity": None,
    }
    for function in (rsd_jax.generate, rsd_jax.stream):
        parameters = inspect.signature(function).parameters
        assert list(parameters)[:4] == ["method", "target", "draft", "prompts"]
        options = {name: p.default for name, p in parameters.items() if p.kind == p.KEYWORD_ONLY}
        assert expected.items() <= options.items()


BAD_METHODS = {
    "an unknown method": ("medusa", {}, r"'medusa'.*known methods: \['ar', 'beam', 'dynamic'"),
    "an unknown option": ("sd", {"length": 2, "width": 3}, r"'sd'.*\['width'\].*'length'"),
    "an option of drafts": ("ar", {"draft_top_k": 3}, r"'ar'.*\['draft_top_k'\]"),
    "a missing option": ("spectr", {"length": 2}, r"missing options \['num_drafts'\]"),
    "length 0": ("sd", {"length": 0}, "length=0 must be an integer of at least 1"),
    "a float": ("rsd_s", {"width": 2.0, "length": 2}, "width=2.0 must be an integer"),
    "a flag": ("sd", {"length": True}, "length=True must be an integer"),
    "width 0": ("rsd_s", {"width": 0, "length": 2}, "width=0"),
    "no drafts": ("spectr", {"num_drafts": 0, "length": 2}, "num_drafts=0"),
    "a zero in branching": ("rsd_c", {"branching": (2, 0)}, r"branching\[1\]=0"),
    "branching of nothing": ("rsd_c", {"branching": None}, "branching=None.*one per level"),
    "no branching": ("rsd_c", {"branching": ()}, r"branching=\(\).*one per level"),
    "branching of a number": ("rsd_c", {"branching": 3}, "branching=3.*one per level"),
    "draft_temperature 0": ("sd", {"length": 2, "draft_temperature": 0}, "draft_temperature=0"),
    "draft_temperature that is none": (
        "sd",
        {"length": 2, "draft_temperature": float("inf")},
        "temperature=inf",
    ),
    "draft_top_k 0": ("sd", {"length": 2, "draft_top_k": 0}, "top_k=0"),
}


@pytest.mark.parametrize("case", BAD_METHODS)
def test_bad_methods(case):
    name, options, message = BAD_METHODS[case]
    with pytest.raises(rsd_jax.ConfigError, match=message):
        rsd_jax.build_method(name, **options)


SHORT = rsd_jax.LoadedModel(TableModel(max_positions=10), None)

BAD_REQUESTS = {
    "a name for a method": ({"method": "sd"}, "build_method"),
    "no prompts": ({"prompts": []}, "prompts is empty"),
    "an empty prompt": ({"prompts": [[1], []]}, "prompt 1 is empty"),
    "text": ({"prompts": ["def f"]}, "prompt 0 is text; encode"),
    "a flat list": ({"prompts": [1, 2]}, "prompt 0.*list of"),
    "floats": ({"prompts": [[1.0]]}, "prompt 0.*integer"),
    "nested lists": ({"prompts": [[[1]]]}, "prompt 0.*flat"),
    "an id out of range": ({"prompts": [[0], [1, 3]]}, r"prompt 1.*id 3.*\[0, 3\)"),
    "an encoding": (
        {"prompts": collections.UserDict({"input_ids": [[1]]})},
        r'prompts is a UserDict .*give \["input_ids"\] of it',
    ),
    "encodings": (
        {"prompts": [collections.UserDict({"input_ids": [1]})]},  # as BatchEncoding is one
        r'prompt 0 is a UserDict .*give \["input_ids"\] of it',
    ),
    "an array of prompts in a list": (
        {"prompts": [np.ones((1, 2), np.int32)]},
        r"prompt 0 has the shape \[1, 2\].*each row of it as a prompt",
    ),
    "a negative id": ({"prompts": [[-1]]}, r"prompt 0.*id -1.*\[0, 3\)"),
    "too long": (
        {"target": SHORT, "draft": SHORT},
        "prompt 2.*the target's 10 positions.*max_new_tokens",
    ),
    "a short draft": ({"draft": SHORT}, "prompt 2.*the draft's 10 positions.*max_new_tokens"),
    "no tokens": ({"max_new_tokens": 0}, "max_new_tokens=0"),
    "half a token": ({"max_new_tokens": 1.5}, "max_new_tokens=1.5"),
    "a flag for a number": ({"max_new_tokens": True}, "max_new_tokens=True"),
    "too many in a narrow integer": (
        {"target": SHORT, "draft": SHORT, "max_new_tokens": np.uint8(255)},
        "prompt 0.*positions",
    ),
    "no draft": ({"draft": None}, "'sd' needs a draft model"),
    "width above the vocabulary": (
        {"method": rsd_jax.build_method("rsd_s", width=4, length=1)},
        "4 distinct.*3 tokens.*width",
    ),
    "branching above the vocabulary": (
        {"method": rsd_jax.build_method("rsd_c", branching=(1, 4))},
        "4 distinct.*branching",
    ),
    "a negative temperature": ({"temperature": -0.1}, "temperature=-0.1.*at least 0"),
    "a temperature below float32": ({"temperature": 1e-40}, "temperature=1e-40.*to 0"),
    "a temperature above float32": ({"temperature": 1e39}, "temperature=1e.39.*float32"),
    "no temperature": ({"temperature": float("nan")}, "temperature=nan"),
    "top_p 0": ({"top_p": 0.0}, r"top_p=0.0.*\(0, 1\]"),
    "top_p above 1": ({"top_p": 1.1}, r"top_p=1.1.*\(0, 1\]"),
    "top_k 0": ({"top_k": 0}, "top_k=0.*at least 1"),
    "half a top_k": ({"top_k": 1.5}, "top_k=1.5.*integer"),
    "a flag for a temperature": ({"temperature": True}, "temperature=True"),
    "a word for a temperature": ({"temperature": "1"}, "temperature='1'"),
    "a word for top_k": ({"top_k": "3"}, "top_k='3'.*integer"),
    "a numpy half": ({"top_k": np.float32(1.5)}, "top_k=.*1.5.*integer"),
    "a flag for a seed": ({"seed": True}, "seed=True.*integer"),
    "prompts that run out": ({"prompts": iter([[1]])}, "list of lists"),
    "a ragged prompt": ({"prompts": [[[1], [1, 2]]]}, "prompt 0.*flat"),
    "no target": ({"target": None}, "target must come from load_model"),
    "a negative seed": ({"seed": -1}, "seed=-1"),
    "half a seed": ({"seed": 0.5}, "seed=0.5.*integer"),
    "too few request ids": ({"request_ids": [0]}, "1 request_ids for 4 prompts"),
    "request ids that are none": ({"request_ids": [0.1, 0.2, 0.3, 0.4]}, "request_ids.*integers"),
    "a negative request id": ({"request_ids": [0, 1, 2, -3]}, "request_ids.*0"),
    "eos out of range": ({"eos_id": [0, 3]}, r"eos_id 3.*\[0, 3\)"),
    "batch size 0": ({"batch_size": 0}, "batch_size=0"),
    "capacity 0": ({"capacity": 0}, "capacity=0"),
}


@pytest.mark.parametrize("case", BAD_REQUESTS)
def test_bad_requests_run_nothing(case):
    changes, message = BAD_REQUESTS[case]
    with compilations() as programs, pytest.raises(rsd_jax.ConfigError, match=message):
        decode(**changes)
    assert not {"jit(prefill)", "jit(advance)"} & set(programs)


def test_bad_streams_are_refused_when_called():
    target, draft = joint_law.pair()
    for changes, message in (
        ({"blocks_per_step": 0}, "blocks_per_step=0"),
        ({"max_new_tokens": 0}, "max_new_tokens=0"),
    ):
        with pytest.raises(rsd_jax.ConfigError, match=message):
            rsd_jax.stream(SD, target, draft, PROMPTS, **{"max_new_tokens": 4} | changes)


def test_unknown_names_of_things_to_load(tmp_path):
    with pytest.raises(rsd_jax.ConfigError, match=r"'llama'.*'quickstart'"):
        rsd_jax.load_pair("llama")
    with pytest.raises(rsd_jax.ConfigError, match=r"'float16'.*bfloat16"):
        rsd_jax.load_pair("quickstart", dtype="float16")
    with pytest.raises(rsd_jax.CheckpointError, match="nowhere"):
        rsd_jax.load_model(tmp_path / "nowhere")


def test_a_support_smaller_than_the_tree_is_legal():
    method = rsd_jax.build_method("rsd_c", branching=(3, 2))
    result = decode(method=method, top_k=1)
    assert result.tokens == decode(method=rsd_jax.build_method("ar"), temperature=0.0).tokens


def test_more_independent_drafts_than_tokens_are_legal():
    """Independent drafts may be equal; distinct siblings could not be that many."""
    method = rsd_jax.build_method("spectr", num_drafts=np.int64(5), length=1)
    stats = decode(method=method, top_k=2**40).stats
    assert stats.accepted_ranks.shape == (4, 5)


def test_prompts_may_be_any_sequences():
    reference = decode()
    for prompts in (tuple(map(tuple, PROMPTS)), [np.asarray(p, np.int64) for p in PROMPTS]):
        assert decode(prompts=prompts, max_new_tokens=np.int64(8)).tokens == reference.tokens


@pytest.mark.parametrize("number", [np.int64(100), np.uint8(250)], ids=["int64", "uint8"])
def test_counts_may_be_numpy_integers(number):
    """NumPy integers have no `bit_length`, and narrow types overflow in sums of capacities."""
    reference = decode(max_new_tokens=int(number), batch_size=2)
    assert reference.num_tokens.tolist() == [int(number)] * 4
    assert decode(max_new_tokens=number, batch_size=np.int64(2)).tokens == reference.tokens


def test_rows_that_fill_their_buffer():
    """The writes of the last block fit, at and past the edge of a bucket of 128."""
    options = {
        "method": rsd_jax.build_method("rsd_s", width=2, length=3),
        "prompts": [PROMPTS[3]] * 16,
    }
    roomy = decode(**options, max_new_tokens=150).tokens
    for limit in range(128 - 4 - 8, 128):  # a prompt has 4 tokens, the spare room is 2 (3 + 1)
        tokens = decode(**options, max_new_tokens=limit).tokens
        assert tokens == [row[:limit] for row in roomy]


def test_a_draft_is_not_needed_by_ar():
    method = rsd_jax.build_method("ar")
    assert decode(method=method, draft=None).tokens == decode(method=method).tokens


def test_the_counts_fit_together():
    result = decode(method=rsd_jax.build_method("rsd_c", branching=(2, 2)), max_new_tokens=50)
    stats = result.stats
    assert [len(tokens) for tokens in result.tokens] == [50] * 4 == result.num_tokens.tolist()
    assert result.finish_reason == ["length"] * 4
    assert stats.accepted_depths.shape == (4, 3)
    assert stats.accepted_ranks.shape == (4, 2)
    np.testing.assert_array_equal(stats.accepted_depths.sum(axis=1), stats.blocks)
    accepted = stats.accepted_depths @ np.arange(3)
    np.testing.assert_array_equal(stats.accepted_ranks.sum(axis=1), accepted)
    np.testing.assert_array_equal(stats.produced, accepted + stats.blocks)
    assert (stats.produced >= 50).all()
    assert stats.produced.max() > 50
    assert stats.accepted_ranks[:, 1].sum() > 0
    assert stats.block_efficiency == stats.produced.sum() / stats.blocks.sum()
    chunked = decode(
        method=rsd_jax.build_method("rsd_c", branching=(2, 2)), max_new_tokens=50, batch_size=4
    )
    for name in ("blocks", "produced", "accepted_depths", "accepted_ranks", "empty_residuals"):
        np.testing.assert_array_equal(getattr(chunked.stats, name), getattr(stats, name))


def test_one_program_serves_all_values():
    """Six temperatures, four top_p, ten prompt lengths; then other seeds, ends and weights."""
    rng = np.random.default_rng(0)

    def prompts(longest: int) -> list[list[int]]:
        return [rng.integers(0, 3, length).tolist() for length in (1, 2, longest, longest)]

    decode(prompts=prompts(3), temperature=0.9, top_p=0.9)
    other = joint_law.MODEL.init_params(jax.random.key(5))
    with compilations() as programs:
        for temperature in (0.3, 0.5, 0.7, 1.0, 1.3, 2.0):
            decode(temperature=temperature, top_p=0.9)
        for top_p in (0.1, 0.5, 0.8, 0.99):
            decode(top_p=top_p)
        for longest in range(1, 51, 5):
            decode(prompts=prompts(longest), top_p=0.9)
        decode(top_p=0.9, seed=3, max_new_tokens=20, eos_id=[1, 2], request_ids=[5, 6, 7, 8])
        pair = rsd_jax.LoadedModel(TableModel(), other)
        decode(top_p=0.9, target=pair, draft=pair)
    assert programs == []
    with compilations() as programs:
        decode(top_p=0.9, batch_size=3)
    assert {"jit(prefill)", "jit(advance)"} <= set(programs), "another shape is another program"


def test_one_capacity_is_one_program():
    """Prompts of 4 and of 120 tokens need caches of two sizes, unless `capacity` is given."""
    reference = decode()
    long = [prompt * 30 for prompt in PROMPTS]
    assert decode(capacity=200).tokens == reference.tokens
    with compilations() as programs:
        decode(prompts=long, capacity=200)
    assert programs == []


def test_streams_hand_out_tokens_as_they_come():
    target, draft = joint_law.pair()
    options = {"max_new_tokens": 30, "eos_id": 2, "batch_size": 2}
    reference = rsd_jax.generate(SD, target, draft, PROMPTS, **options)
    turns, rows = 0, [[] for _ in PROMPTS]
    for row, new in rsd_jax.stream(SD, target, draft, PROMPTS, blocks_per_step=1, **options):
        assert 1 <= len(new) <= 3
        rows[row] += new
        turns += 1
    assert rows == reference.tokens
    assert turns >= reference.stats.blocks.sum() - len(PROMPTS)


def test_options_are_declared_once():
    """`RequestOptions` has the fields of the dataclasses and the options of the signatures."""
    fields = {f.name for kind in (Sampling, Request) for f in dataclasses.fields(kind)}
    held = {"eos_id" if name == "eos_ids" else name for name in fields - {"sampling"}}
    # The option max_new_tokens, one number or one per prompt, makes `limits` too.
    assert {*RequestOptions.__annotations__} == held - {"prompts", "skips", "limits"}
    for function in (rsd_jax.generate, rsd_jax.stream, generate_with_search):
        shown = inspect.signature(function).parameters
        for name in RequestOptions.__annotations__:
            assert shown[name].kind is inspect.Parameter.KEYWORD_ONLY
            assert re.search(rf"^ +{name}: ", function.__doc__, re.MULTILINE)
        assert shown["top_p"].default == 1.0
        assert shown["max_new_tokens"].default is inspect.Parameter.empty
        assert not [p for p in shown.values() if p.kind is inspect.Parameter.VAR_KEYWORD]


def test_a_wrong_option_is_named():
    method, (target, _) = tiny.method("ar"), tiny.pair()
    with pytest.raises(TypeError, match=r"unknown option 'topp'; the options are .*'top_p'"):
        rsd_jax.generate(method, target, None, [[1]], max_new_tokens=2, topp=0.5)
    with pytest.raises(TypeError, match="'max_new_tokens' is missing"):
        rsd_jax.stream(method, target, None, [[1]])


def test_sampling_is_hashed_as_before():
    """`config_hash` covers these keys and values in the files of earlier commits."""
    plain = Sampling(max_new_tokens=np.int8(6), temperature=0.7, seed=3)
    assert plain.settings() == {
        "max_new_tokens": 6,
        "temperature": 0.7,
        "top_k": None,
        "top_p": 1.0,
        "seed": 3,
        "eos_id": None,
    }
    assert Sampling(max_new_tokens=1, eos_ids=(2, 5)).settings()["eos_id"] == (2, 5)
