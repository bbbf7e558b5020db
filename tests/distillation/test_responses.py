"""Responses that the target wrote: files, resume, what can be wrong with them, windows, prompts."""

import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rsd_jax
from rsd_jax.core.identity import weights_checksum
from rsd_jax.distillation.data import tokenizer as bpe
from rsd_jax.distillation.data.corpus import SourceFile
from rsd_jax.distillation.data.mixture import Mixture, Source
from rsd_jax.distillation.data.training_prompts import training_prompts
from rsd_jax.distillation.responses import shards as response_files
from rsd_jax.distillation.responses.generate import ResponseSettings, generate_responses
from rsd_jax.distillation.responses.on_policy import OnPolicy, draft_windows, mix_on_policy
from rsd_jax.distillation.responses.reading import open_responses
from rsd_jax.distillation.responses.shards import (
    Shard,
    read_shard,
    shard_path,
    token_dtype,
)
from rsd_jax.distillation.responses.source import as_source
from rsd_jax.errors import CheckpointError, ConfigError
from rsd_jax.records.json_objects import build
from rsd_jax.testing.table_model import TableModel
from tests import old_files, tiny

_PROMPTS = {f"prompt{i}": tokens for i, tokens in enumerate([*tiny.PROMPTS, [4, 4, 9]])}
# Two rows, and no other program in the whole module: three shards of 2, 2 and 1 prompts.
_SETTINGS = ResponseSettings(
    max_new_tokens=6,
    temperatures=(0.5, 1.0),
    eos_ids=(3, 8),
    seed=5,
    batch_size=2,
    prompts_per_shard=2,
    top_logprobs=4,
)


class _Words:
    """A tokenizer with only the function that training data need."""

    def __init__(self, size: int = 32, prefix: str = "t"):
        self._size, self._prefix = size, prefix

    def get_vocab(self) -> dict[str, int]:
        return {f"{self._prefix}{i}": i for i in range(self._size)}


def _generate(directory, settings=_SETTINGS, *, prompts=_PROMPTS, tokenizer=None, **others):
    target = others.pop("target", tiny.pair()[0])
    tokenizer = tokenizer or _Words()
    return generate_responses(target, prompts, settings, directory, tokenizer=tokenizer, **others)


def _bytes(directory: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A directory written in one go, its manifest, and the progress on the way."""
    directory, progress = tmp_path_factory.mktemp("whole"), []
    manifest = _generate(directory, progress=progress.append)
    return directory, manifest, progress


@pytest.fixture
def copy(whole, tmp_path):
    """A copy to damage."""
    for name, content in _bytes(whole[0]).items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def _sequences(directory: pathlib.Path) -> list[dict]:
    """The fields of every sequence, in the order of the files."""
    manifest = json.loads((directory / "manifest.json").read_text())
    found = []
    for index in range(manifest["shards"]):
        shard = read_shard(directory, index, manifest["config_hash"], top=True)
        ends, rows = np.cumsum(shard.length), shard.length - shard.prompt_length
        for i, end in enumerate(ends):
            tokens = shard.tokens[end - shard.length[i] : end].tolist()
            own = slice(rows[:i].sum(), rows[: i + 1].sum())
            found.append(
                {
                    "prompt": tokens[: shard.prompt_length[i]],
                    "response": tokens[shard.prompt_length[i] :],
                    "request": int(shard.request_id[i]),
                    "temperature": float(shard.temperature[i]),
                    "ended": bool(shard.ended[i]),
                    "name": str(shard.name[i]),
                    "top": (shard.top_ids[own], shard.top_logprobs[own], shard.rest_logprob[own]),
                }
            )
    return found


def test_stored_responses_are_those_of_generate(whole):
    directory, manifest, progress = whole
    sequences = _sequences(directory)
    assert sorted(s["request"] for s in sequences) == list(range(2 * len(_PROMPTS)))
    names, prompts = list(_PROMPTS), list(_PROMPTS.values())
    for which, temperature in enumerate(_SETTINGS.temperatures):
        result = rsd_jax.generate(
            rsd_jax.build_method("ar"),
            tiny.pair()[0],
            None,
            prompts[::-1],
            max_new_tokens=6,
            temperature=temperature,
            seed=5,
            batch_size=2,
            eos_id=(3, 8),
            request_ids=[2 * i + which for i in range(len(prompts))][::-1],
        )
        for i, prompt in enumerate(prompts):
            (stored,) = [s for s in sequences if s["request"] == 2 * i + which]
            row = len(prompts) - 1 - i
            assert stored["prompt"] == prompt
            assert stored["response"] == result.tokens[row]
            assert stored["ended"] == (result.finish_reason[row] == "eos")
            assert (stored["name"], stored["temperature"]) == (names[i], temperature)
    assert any(s["ended"] for s in sequences)
    assert not all(s["ended"] for s in sequences)
    assert [(p.shards, p.total) for p in progress] == [(1, 3), (2, 3), (3, 3)]
    assert progress[-1].tokens == sum(len(s["response"]) for s in sequences)
    assert progress[-1].tokens_per_second > 0
    assert manifest["settings"]["temperatures"] == [0.5, 1.0]
    assert manifest["settings"]["target"]["weights"] == weights_checksum(tiny.pair()[0].params)


def test_stored_log_probabilities_are_the_targets(whole):
    target = tiny.pair()[0]
    sequences = _sequences(whole[0])
    padded = np.zeros((len(sequences), 16), np.int32)
    for row, stored in enumerate(sequences):
        tokens = stored["prompt"] + stored["response"]
        padded[row, : len(tokens)] = tokens
    logits = jax.jit(target.model.score)(target.params, jnp.asarray(padded))
    logprobs = np.asarray(jax.nn.log_softmax(logits)).astype(np.float64)
    for row, stored in enumerate(sequences):
        ids, values, rest = stored["top"]
        assert len(ids) == len(rest) == len(stored["response"])
        assert ids.dtype == np.uint16
        for i in range(len(ids)):
            law = logprobs[row, len(stored["prompt"]) - 1 + i]
            expected = np.sort(law)[::-1]
            np.testing.assert_allclose(values[i], expected[:4], atol=1e-4)
            np.testing.assert_allclose(law[ids[i]], values[i], atol=1e-4)
            left = np.log(np.exp(expected[4:]).sum())
            np.testing.assert_allclose(rest[i], left, rtol=1e-4, atol=1e-4)


def test_refilled_rows_store_the_same(whole, tmp_path):
    """Five prompts of a shard in two rows: each row keeps the log probabilities of its prompt."""
    _generate(tmp_path, dataclasses.replace(_SETTINGS, prompts_per_shard=len(_PROMPTS)))
    refilled = {each["request"]: each for each in _sequences(tmp_path)}
    for one in _sequences(whole[0]):
        other = refilled.pop(one["request"])
        for ids, expected in zip(other.pop("top"), one.pop("top"), strict=True):
            np.testing.assert_allclose(ids, expected, rtol=1e-4, atol=1e-4)
        assert other == one
    assert not refilled


def test_a_run_killed_between_shards_leaves_the_same_bytes(whole, tmp_path):
    def kill(progress):
        if progress.shards == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _generate(tmp_path, progress=kill)
    assert set(_bytes(tmp_path)) == {"manifest.json", "shard-00000.npz"}
    progress = []
    _generate(tmp_path, progress=progress.append)
    assert [p.shards for p in progress] == [2, 3]
    assert _bytes(tmp_path) == _bytes(whole[0])
    _generate(tmp_path, progress=progress.append)
    assert len(progress) == 2


def test_a_run_killed_inside_a_shard_leaves_the_same_bytes(whole, tmp_path, monkeypatch):
    written = []

    def kill(file, **arrays):
        written.append(len(arrays["tokens"]))
        if len(written) == 2:
            file.write(b"half a shard")
            raise KeyboardInterrupt
        savez(file, **arrays)

    savez = np.savez
    monkeypatch.setattr(np, "savez", kill)
    with pytest.raises(KeyboardInterrupt):
        _generate(tmp_path)
    monkeypatch.undo()
    assert set(_bytes(tmp_path)) == {"manifest.json", "shard-00000.npz"}
    (tmp_path / ".shard-00001.npz.partial").write_bytes(b"half a shard")  # of a killed process
    with pytest.raises(CheckpointError, match=r"shard-00001.npz is missing; run the generate"):
        open_responses(tmp_path)
    _generate(tmp_path)
    assert _bytes(tmp_path) == _bytes(whole[0])


def test_responses_of_an_earlier_commit_go_on(whole, tmp_path):
    folder, seen = old_files.copy_of("responses", tmp_path), []
    before = {name: content for name, content in _bytes(folder).items() if name.endswith("npz")}
    _generate(folder, progress=seen.append)
    assert [(done.shards, done.total) for done in seen] == [(3, 3)]
    assert before.items() <= _bytes(folder).items()
    own, others = ([one | {"top": None} for one in _sequences(f)] for f in (folder, whole[0]))
    assert own == others


def test_another_setting_is_named(copy):
    before = _bytes(copy)
    for change, field in (
        ({"seed": 6}, "seed=5"),
        ({"temperatures": (0.5, 0.7)}, "temperatures="),
        ({"batch_size": 4}, "batch_size=2"),
        ({"top_logprobs": 0}, "top_logprobs=4"),
    ):
        with pytest.raises(ConfigError, match=f"begun with {field}.*set it back"):
            _generate(copy, dataclasses.replace(_SETTINGS, **change))
    target, draft = tiny.pair()
    model = dataclasses.replace(target.model, dtype="bfloat16")
    cases = [
        ("target.weights", {"target": draft}),
        ("target.dtype", {"target": rsd_jax.LoadedModel(model, target.params)}),
        ("tokenizer", {"tokenizer": _Words(prefix="u")}),
        ("prompts.sha256", {"prompts": _PROMPTS | {"prompt1": [3, 18]}}),
        ("prompts.count", {"prompts": {"prompt0": [7]}}),
        ("method", {"method": tiny.method("sd"), "draft": draft}),
    ]
    for field, arguments in cases:
        with pytest.raises(ConfigError, match=f"begun with {field}="):
            _generate(copy, **arguments)
    assert _bytes(copy) == before


def test_damaged_shards_are_named(copy):
    path = shard_path(copy, 1)
    intact = path.read_bytes()

    def fails(match):
        for call in (open_responses, _generate):
            with pytest.raises(CheckpointError, match=match):
                call(copy)

    for size in (0, len(intact) // 2, len(intact) - 1):
        path.write_bytes(intact[:size])
        fails("shard-00001.npz is truncated or damaged.*delete it and run the generate")
    with np.load(shard_path(copy, 0)) as archive:
        arrays = dict(archive)
    np.savez(path, **arrays | {"version": np.int32(2)})
    fails("shard-00001.npz has format version 2, expected 1")
    np.savez(path, **arrays | {"config_hash": np.asarray("0" * 16)})
    fails("shard-00001.npz belongs to another run")
    np.savez(path, **arrays | {"length": arrays["length"][1:]})
    with pytest.raises(CheckpointError, match="lengths that do not add up to its tokens"):
        open_responses(copy)
    at = intact.index(b"tokens.npy") + 200
    path.write_bytes(intact[:at] + bytes([intact[at] ^ 1]) + intact[at + 1 :])
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        open_responses(copy)
    path.unlink()
    _generate(copy)
    assert path.read_bytes() == intact


def test_damaged_manifests_are_named(copy, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    for directory in (empty, empty / "missing"):
        with pytest.raises(ConfigError, match=r"holds no responses.*run the generate stage"):
            open_responses(directory)
    path = copy / "manifest.json"
    manifest = json.loads(path.read_text())
    changed = manifest | {"settings": manifest["settings"] | {"seed": 6}}
    for content, match in (
        ('{"format": ', "no manifest of responses"),
        ("[]", "no manifest of responses"),
        (json.dumps(manifest | {"version": 2}), "expected .*, 1"),
        (json.dumps(changed), "changed by hand"),
    ):
        path.write_text(content)
        for call in (open_responses, _generate):
            with pytest.raises(CheckpointError, match=match):
                call(copy)
    path.unlink()
    with pytest.raises(CheckpointError, match="shards but no manifest"):
        _generate(copy)


def test_bad_arguments_are_named(whole, tmp_path):
    for change, match in (
        ({"temperatures": ()}, "temperatures is empty"),
        ({"temperatures": (-1.0,)}, "temperature=-1.0"),
        ({"top_logprobs": -1}, "top_logprobs=-1"),
        ({"prompts_per_shard": 0}, "prompts_per_shard=0"),
    ):
        with pytest.raises(ConfigError, match=match):
            dataclasses.replace(_SETTINGS, **change)
    with pytest.raises(ConfigError, match="unknown field 'length'"):
        build(ResponseSettings, {"length": 3})
    with pytest.raises(ConfigError, match="'max_new_tokens' is missing"):
        build(ResponseSettings, {})
    assert build(ResponseSettings, dataclasses.asdict(_SETTINGS)) == _SETTINGS
    many = dataclasses.replace(_SETTINGS, top_logprobs=33)
    unknown = dataclasses.replace(_SETTINGS, eos_ids=(32,))
    for settings, arguments, match in (
        (_SETTINGS, {"tokenizer": _Words(33)}, "token id 32, but the model's vocab_size is 32"),
        (_SETTINGS, {"prompts": {"a": [3], "b": [40]}}, "prompt 1 holds token id 40"),
        (_SETTINGS, {"prompts": {}}, "prompts is empty"),
        (_SETTINGS, {"method": tiny.method("sd")}, "needs a draft model"),
        (many, {}, "top_logprobs=33 is more than the vocabulary's 32"),
        (unknown, {}, "eos_id 32"),
    ):
        with pytest.raises(ConfigError, match=match):
            _generate(tmp_path / "none", settings, **arguments)
    assert not (tmp_path / "none").exists()
    with pytest.raises(ConfigError, match=r"vocab_size=32, the draft has 30; all must share"):
        open_responses(whole[0], models={"draft": TableModel(vocab_size=30)})
    with pytest.raises(ConfigError, match="another tokenizer"):
        open_responses(whole[0], tokenizer=_Words(prefix="u"))
    source = open_responses(whole[0], models={"target": tiny.pair()[0].model}, tokenizer=_Words())
    with pytest.raises(ConfigError, match="prompt of 8 tokens; a window of 7"):
        source.draw(np.random.default_rng(0), 1, 7)


def test_token_ids_have_the_width_of_the_vocabulary(tmp_path):
    assert token_dtype(1 << 16) == np.uint16
    assert token_dtype((1 << 16) + 1) == np.uint32
    tokens = np.asarray([1, 70000, 2], token_dtype(128256))
    one = np.asarray([1], np.int32)
    shard = Shard(tokens, 3 * one, one, 0 * one, one / 2, one > 0, np.asarray(["ä"]))
    response_files.write_shard(tmp_path, 0, shard, "hash")
    read = read_shard(tmp_path, 0, "hash")
    assert read.tokens.dtype == np.uint32
    for field in dataclasses.fields(shard):
        np.testing.assert_array_equal(getattr(read, field.name), getattr(shard, field.name))


def test_windows_open_with_a_prompt_and_mask_what_the_target_wrote(whole):
    source = open_responses(whole[0], top=True)
    sequences = _sequences(whole[0])
    tokens = [t for s in sequences for t in s["prompt"] + s["response"]]
    flags = [f for s in sequences for f in [False] * len(s["prompt"]) + [True] * len(s["response"])]
    rows = iter([row for s in sequences for row in zip(*s["top"], strict=True)])
    tops = [next(rows) if flag else None for flag in flags]
    starts = np.cumsum([0, *(len(s["prompt"] + s["response"]) for s in sequences)])[:-1]
    assert [list(p) for p in source.prompts()] == [s["prompt"] for s in sequences]
    length, n = 12, len(tokens)
    windows = source.windows(starts, length)
    assert (windows.tokens.dtype, windows.mask.dtype) == (np.int32, bool)
    assert windows.mask.shape == (len(starts), length)
    for row, start in enumerate(starts):
        for j in range(1 + length):
            at = (start + j) % n
            assert windows.tokens[row, j] == tokens[at]
            if j == 0:
                continue
            assert windows.mask[row, j - 1] == flags[at]
            if flags[at]:
                for got, expected in zip(windows.top, tops[at], strict=True):
                    np.testing.assert_array_equal(got[row, j - 1], expected)
    # A file shorter than a window: what comes round again is no label.
    long = source.windows(starts[:1], n + 4)
    assert list(long.mask[0]) == flags[1:] + [False] * 5
    assert list(long.tokens[0]) == tokens + tokens[:5]
    spread = source.spread(5, length)
    np.testing.assert_array_equal(spread.tokens, windows.tokens[::2])


def test_batches_are_a_function_of_seed_and_step(whole):
    def batch(seed, step):
        source = open_responses(whole[0], top=True)
        return source.batch_at(seed=seed, step=step, batch_size=4, length=9)

    jax.tree.map(np.testing.assert_array_equal, batch(1, 2), batch(1, 2))
    assert not np.array_equal(batch(1, 2).tokens, batch(1, 3).tokens)
    assert not np.array_equal(batch(1, 2).tokens, batch(2, 2).tokens)
    plain = Source("plain", np.arange(40).astype(np.uint16), 1.0)
    mixture = Mixture((plain, open_responses(whole[0], weight=3.0)))
    arguments = {"seed": 0, "step": 7, "batch_size": 8, "length": 9}
    _, mask, top = mixture.batch_at(**arguments)
    assert top is None
    assert Mixture((plain,)).batch_at(**arguments).mask is None
    assert mask[:2].all()
    assert not mask[2:].all(axis=1).any()
    assert mask[2:].any(axis=1).all()


def test_on_policy_windows_are_the_drafts(whole):
    draft, other = tiny.pair()[::-1]
    prompts = open_responses(whole[0]).prompts()
    options = OnPolicy(fraction=0.5, max_new_tokens=6, eos_ids=(3, 8))

    def written(draft, seed, step):
        return draft_windows(
            draft, prompts, options, seed=seed, step=step, count=2, length=11, batch_size=2
        )

    windows = written(draft, 4, 9)
    assert windows.top is None
    jax.tree.map(np.testing.assert_array_equal, windows, written(draft, 4, 9))
    for different in (written(draft, 4, 10), written(draft, 5, 9), written(other, 4, 9)):
        assert not np.array_equal(windows.tokens, different.tokens)
    # One prompt, so that only the draws can differ.
    lone = [
        draft_windows(draft, [[7]], options, seed=4, step=step, count=2, length=11)
        for step in range(3)
    ]
    assert len({windows.tokens.tobytes() for windows in lone}) == 3
    known = [list(prompt) for prompt in prompts]
    for tokens, mask in zip(windows.tokens.tolist(), windows.mask, strict=True):
        size = 1 + int(np.argmax(mask))
        assert tokens[:size] in known
    # The continuation is what generate gives; its seed is not known here, so greedily.
    model, params = draft.model, draft.params
    sharp = jax.tree.map(lambda leaf: leaf, params)
    sharp = rsd_jax.LoadedModel(model, sharp | {"lm_head": 1e4 * params["lm_head"]})
    windows = written(sharp, 4, 9)
    for tokens, mask in zip(windows.tokens.tolist(), windows.mask, strict=True):
        size = 1 + int(np.argmax(mask))
        expected = rsd_jax.generate(
            rsd_jax.build_method("ar"),
            sharp,
            None,
            [tokens[:size]] * 2,
            max_new_tokens=6,
            eos_id=(3, 8),
        ).tokens[0]
        shown = tokens[size : size + len(expected)]
        assert shown == expected[: len(shown)]
        assert mask[size - 1 : size - 1 + len(shown)].all()
        assert not mask[size - 1 + len(shown) : size + len(shown)].any()


def test_a_share_of_a_batch_becomes_on_policy(whole):
    draft = tiny.pair()[1]
    source = open_responses(whole[0])
    prompts = source.prompts()

    def mixed(fraction, step):
        windows = source.batch_at(seed=0, step=step, batch_size=2, length=11)
        options = OnPolicy(fraction=fraction, max_new_tokens=6)
        new = mix_on_policy(windows, draft, prompts, options, seed=0, step=step)
        again = mix_on_policy(windows, draft, prompts, options, seed=0, step=step)
        jax.tree.map(np.testing.assert_array_equal, new, again)
        kept = (new.tokens == windows.tokens).all(axis=1) & (new.mask == windows.mask).all(axis=1)
        return kept, new

    assert mixed(0.0, 0)[0].all()
    assert not mixed(1.0, 0)[0].any()
    shares = np.asarray([mixed(0.25, step)[0] for step in range(24)])
    assert set(shares.sum(axis=1).tolist()) == {1, 2}
    assert set(map(tuple, shares.tolist())) == {(True, True), (True, False), (False, True)}
    for values, match in (
        ({"fraction": 1.5}, "fraction=1.5"),
        ({"max_new_tokens": 0}, "max_new_tokens=0"),
        ({"temperature": -1.0}, "temperature=-1.0"),
    ):
        with pytest.raises(ConfigError, match=match):
            OnPolicy(**{"fraction": 0.5, "max_new_tokens": 6} | values)
    options = OnPolicy(fraction=0.5, max_new_tokens=6)
    stored = open_responses(whole[0], top=True).batch_at(seed=0, step=0, batch_size=2, length=11)
    with pytest.raises(ConfigError, match="no stored log probabilities; give a teacher"):
        mix_on_policy(stored, draft, prompts, options, seed=0, step=0)
    with pytest.raises(ConfigError, match="batch_size=1 must be at least count=2"):
        draft_windows(draft, prompts, options, seed=0, step=0, count=2, length=11, batch_size=1)
    with pytest.raises(ConfigError, match="prompts is empty"):
        draft_windows(draft, [], options, seed=0, step=0, count=2, length=11)


def test_a_lone_sequence_teaches_once():
    tokens = np.asarray([5, 6, 7, 8], np.uint16)
    source = as_source("one", tokens, np.asarray([4]), np.asarray([2]))
    windows = source.windows(source.starts, 7)
    assert windows.tokens.tolist() == [[5, 6, 7, 8, 5, 6, 7, 8]]
    assert windows.mask.tolist() == [[False, True, True, False, False, False, False]]


@pytest.fixture(scope="module")
def library():
    """Files of a small library and a tokenizer of it."""
    body = "".join(f"    total_{i} = argument + {i}\n" for i in range(60))
    files = [
        SourceFile(
            f"module{i}.py",
            f'def add(argument):\n    """Return the argument plus {i}."""\n    return {i}\n\n\n'
            f"def long_{i}(argument):\n{body}",
        )
        for i in range(40)
    ]
    return files, bpe.train_tokenizer([file.text for file in files], vocab_size=300)


def test_training_prompts_are_of_the_training_split(library):
    files, tokenizer = library
    counts = {"library": 5, "number_words": 4, "docstrings": 3}
    prompts = training_prompts(files, counts, tokenizer, max_tokens=400)
    assert [name.partition("/")[0] for name in prompts] == [
        name for name, count in counts.items() for _ in range(count)
    ]
    held_out = {file.name for file in files if file.held_out}
    assert held_out
    for name, ids in prompts.items():
        source, rest = name.split("/", 1)
        assert ids[0] == bpe.BOS_ID
        assert len(ids) <= 400
        text = tokenizer.decode(ids)
        if source == "number_words":
            assert rest.startswith("train/")
            assert text.endswith("\nGerman:")
        else:
            assert rest.rpartition(":")[0] not in held_out
        if source == "docstrings":
            assert text.endswith("# Summary:")
    assert prompts == training_prompts(files, counts, tokenizer, max_tokens=400)
    for counts, match in (
        ({"wmt": 1}, "no prompts of 'wmt'"),
        ({"library": 0}, "asks for no prompts"),
        ({"docstrings": 1000}, r"has \d+ training prompts of at most 400 tokens, not 1000"),
    ):
        with pytest.raises(ConfigError, match=match):
            training_prompts(files, counts, tokenizer, max_tokens=400)
