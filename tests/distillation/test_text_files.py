"""A user's own text, tokenizer and prompts: files, splits, ids of <s> and </s>, bad input."""

import dataclasses
import gzip
import importlib.util
import json
import pathlib
import shutil

import jax
import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, processors, trainers

from rsd_jax.distillation.data import corpus, token_files
from rsd_jax.distillation.data.corpus import is_held_out
from rsd_jax.distillation.data.mixture import open_source
from rsd_jax.distillation.data.text_files import read_documents, split_texts, write_text
from rsd_jax.distillation.data.token_files import open_tokens, write_documents
from rsd_jax.distillation.data.tokenizer import load_tokenizer
from rsd_jax.distillation.data.training_prompts import prompts_from_files
from rsd_jax.distillation.settings import Settings
from rsd_jax.errors import ConfigError
from rsd_jax.models.llama import LlamaModel
from rsd_jax.models.shapes import NAMED_CONFIGS
from tests import ROOT

_BOS, _EOS = 1, 2
_IDS = {"bos_id": _BOS, "eos_id": _EOS}
_TEXTS = [f"Entry {i}: the </s> of <s> is no mark.\n\nIt has {i * i} lines." for i in range(120)]
# Must never change, or drafts would have been trained on what is held out.
_HELD_OUT = {"c.jsonl:3", "c.jsonl:67", "c.jsonl:100", "c.jsonl:107"}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """Like Llama 2's (<s> is 1, </s> is 2, a space in front), set to truncate and to pad."""
    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=70, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False
    )
    made.train_from_iterator([*_TEXTS, "[INST] {prompt} [/INST]"], trainer)
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", _BOS)]
    )
    made.enable_truncation(max_length=12)
    made.enable_padding(length=60, pad_id=0, pad_token="<unk>")
    directory = tmp_path_factory.mktemp("target")
    made.save(str(directory / "tokenizer.json"))
    return load_tokenizer(directory)


def _jsonl(path: pathlib.Path, texts, field: str = "text") -> pathlib.Path:
    path.write_text("".join(json.dumps({"id": 0, field: text}) + "\n" for text in texts))
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with a file of every kind."""
    root = tmp_path_factory.mktemp("files")
    (root / "a.txt").write_text("a\ntext\n")
    (root / "white.txt").write_text(" \n")
    (root / "notes.md").write_text("no text of ours")
    (root / "deep" / "er").mkdir(parents=True)
    with gzip.open(root / "deep" / "b.txt.gz", "wb") as file:
        file.write("\ufeffé\n".encode())
    lines = [json.dumps({"text": "one"}), "", json.dumps({"text": "  "}), '{"text": "three\\n"}']
    with gzip.open(root / "deep" / "er" / "d.jsonl.gz", "wb") as file:
        file.write("\n".join(lines).encode())
    _jsonl(root / "c.jsonl", ["first", "sec\u2028ond"])
    (root / "c.jsonl-2.txt").write_text("after c.jsonl, before c.jsonl.gz")
    return root


def test_documents_of_every_kind(files, tmp_path):
    expected = [
        ("a.txt", "a\ntext\n"),
        ("c.jsonl:1", "first"),
        ("c.jsonl:2", "sec\u2028ond"),
        ("c.jsonl-2.txt", "after c.jsonl, before c.jsonl.gz"),
        ("deep/b.txt", "é\n"),
        ("deep/er/d.jsonl:1", "one"),
        ("deep/er/d.jsonl:4", "three\n"),
    ]
    assert list(read_documents([str(files)])) == expected
    assert list(read_documents(str(files))) == expected
    names = dict(
        read_documents(
            [f"{files}/**/*.jsonl", f"{files}/**/*.jsonl.gz", f"{files}/c.jsonl", f"{files}/a.txt"]
        )
    )
    assert list(names) == [name for name, _ in expected if "jsonl:" in name] + ["a.txt"]
    # A folder elsewhere, with other files compressed, has the same names.
    other = shutil.copytree(files, tmp_path / "[elsewhere]")
    with gzip.open(other / "c.jsonl.gz", "wb") as file:
        file.write((other / "c.jsonl").read_bytes())
    (other / "c.jsonl").unlink()
    assert list(read_documents([str(other)])) == expected
    assert dict(read_documents([str(other / "a.txt")])) == {"a.txt": "a\ntext\n"}
    _jsonl(tmp_path / "other.jsonl", ["x"], "body")
    assert list(read_documents([str(tmp_path / "*.jsonl")], field="body")) == [
        ("other.jsonl:1", "x")
    ]


_BAD = {
    "field.jsonl": (b'{"text": "a"}\n\n{"txet": "b"}\n', r"line 3: no field 'text'.*'txet'"),
    "json.jsonl": (b'{"text": "a"}\n{"text": \n', r"line 2: not JSON"),
    "list.jsonl": (b'["text"]\n', r"line 1: expected an object, got list"),
    "number.jsonl": (b'{"text": 3}\n', r"line 1: the field 'text' is int"),
    "half.jsonl": (b'{"text": "\\ud800"}\n', r"line 1: .* a lone surrogate"),
    "latin.jsonl": (b'{"text": "a"}\n{"text": "\xe9"}\n', r"line 2: not UTF-8"),
    "latin.txt": (b"a\nb\n\xe9\n", r"line 3: not UTF-8"),
    "cut.jsonl.gz": (gzip.compress(b'{"text": "a"}\n')[:-4], r"beyond line 1"),
    "plain.txt.gz": (b"text", r"beyond line 0"),
}


@pytest.mark.parametrize("name", _BAD)
def test_bad_files_are_named_with_their_line(name, tmp_path):
    content, match = _BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=match) as error:
        list(read_documents([str(tmp_path / name)]))
    assert str(error.value).startswith(str(tmp_path / name))


def test_what_is_no_text_is_named_before_anything_is_read(files, tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.txt").write_text("another")
    for patterns, match in (
        ([], "no files were named"),
        ([f"{tmp_path}/*.txt"], r"no file matches '.*\*\.txt'"),
        ([f"{tmp_path}/*"], "no file matches"),
        ([str(files / "missing.txt")], "no file matches"),
        ([f"{files}/*"], r"notes\.md does not end in \.txt or \.jsonl"),
        ([str(files), str(tmp_path / "deep")], r"would both be called 'a\.txt'"),
    ):
        with pytest.raises(ConfigError, match=match):
            read_documents(patterns)
    (tmp_path / "deep" / "a.txt").unlink()
    with pytest.raises(ConfigError, match=r"the folder .*deep holds no file"):
        read_documents([str(tmp_path / "deep")])


@pytest.fixture(scope="module")
def written(tokenizer, tmp_path_factory):
    """120 documents as tokens of both splits: (file of the documents, folder, summary)."""
    root = tmp_path_factory.mktemp("written")
    path = _jsonl(root / "c.jsonl", _TEXTS)
    return path, root / "text", write_text([str(path)], tokenizer, root / "text", **_IDS)


def test_text_gets_the_marks_of_its_tokenizer(tokenizer, written):
    path, directory, summary = written
    assert {f"c.jsonl:{i}" for i in range(1, 121) if is_held_out(f"c.jsonl:{i}")} == _HELD_OUT
    documents = dict(read_documents([str(path)]))
    assert list(documents.values()) == _TEXTS
    for split in token_files.SPLITS:
        texts = [t for name, t in documents.items() if (name in _HELD_OUT) == (split == "heldout")]
        tokens = open_tokens(directory, split)
        assert tokens.dtype == np.uint16
        starts, ends = (np.flatnonzero(tokens == mark) for mark in (_BOS, _EOS))
        assert starts.tolist() == [0, *(ends[:-1] + 1)]
        assert ends[-1] == len(tokens) - 1
        found = [
            tokenizer.decode(tokens[a + 1 : b].tolist()) for a, b in zip(starts, ends, strict=True)
        ]
        assert found == texts == list(split_texts([str(path)], split))
        size = sum(len(text.encode()) for text in texts)
        assert summary[split] == {"documents": len(texts), "bytes": size, "tokens": len(tokens)}


def test_windows_open_with_the_mark_that_was_written(written):
    _, directory, _ = written
    for anywhere in (True, False):
        source = open_source(directory, "train", weight=1.0, anywhere=anywhere)
        assert (source.starts is None) == anywhere
        drawn = source.draw(np.random.default_rng(0), 30, 9), source.spread(30, 9)
        for windows in (both.tokens for both in drawn):
            assert windows.shape == (30, 10)
            assert (windows[:, 0] == _BOS).all()
    assert source.starts is not None
    assert len(source.starts) == len(_TEXTS) - len(_HELD_OUT)
    batch = corpus.batch_at(source.tokens, seed=0, step=0, batch_size=4, length=9, bos_id=_BOS)
    assert (batch[:, 0] == _BOS).all()
    source = open_source(directory, "heldout", weight=1.0, anywhere=True)
    with pytest.raises(ConfigError, match="fewer than one window of 9999"):
        source.spread(1, 9999)


def test_the_share_that_is_held_out(tokenizer, written, tmp_path):
    path = str(written[0])
    summary = write_text([path], tokenizer, tmp_path / "half", **_IDS, held_out_per_mille=500)
    count = sum(is_held_out(f"c.jsonl:{i}", 500) for i in range(1, 121))
    assert summary["heldout"]["documents"] == count
    assert 45 <= count <= 75
    (tmp_path / "a.txt").write_text("a")
    for file, split, share in ((path, "heldout", 1), (str(tmp_path / "a.txt"), "train", 999)):
        match = rf"none of the (120|1) documents .*{split}.*_per_mille={share}"
        with pytest.raises(ConfigError, match=match):
            write_text([file], tokenizer, tmp_path / "none", **_IDS, held_out_per_mille=share)
    for share in (0, 1000, 0.5):
        with pytest.raises(ConfigError, match="must be an integer from 1 to 999"):
            write_text([path], tokenizer, tmp_path / "none", **_IDS, held_out_per_mille=share)
    assert not (tmp_path / "none").exists()


class _Counting:
    """A tokenizer that notes how many texts it is given at once."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self.sizes: list[int] = []

    def __getattr__(self, name):
        return getattr(self._tokenizer, name)

    def encode_batch_fast(self, texts, **options):
        self.sizes.append(len(texts))
        return self._tokenizer.encode_batch_fast(texts, **options)


def test_a_corpus_is_encoded_in_parts(tokenizer, tmp_path, monkeypatch):
    read = 0

    def texts():
        nonlocal read
        for text in _TEXTS:
            read += 1
            yield text

    def write(name, documents, tokenizer):
        write_documents(documents, tokenizer, tmp_path / name, unit="documents", **_IDS)
        return (tmp_path / name / "train.bin").read_bytes()

    lists = {"train": _TEXTS, "heldout": _TEXTS[:2]}
    whole, parts = _Counting(tokenizer), _Counting(tokenizer)
    expected = write("whole", lists, whole)
    assert whole.sizes == [120, 2]
    monkeypatch.setattr(token_files, "_CHUNK", 3 * len(_TEXTS[0]))
    assert write("parts", lists | {"train": texts()}, parts) == expected
    assert parts.sizes[0] == 3
    assert max(parts.sizes) <= 4
    assert read == 120

    def broken():
        yield from _TEXTS[:9]
        raise ConfigError("line 10")

    # What is not whole is not read, nor is what it was to replace.
    with pytest.raises(ConfigError, match="line 10"):
        write("whole", lists | {"train": broken()}, tokenizer)
    with pytest.raises(ConfigError, match=r"corpus\.json does not exist"):
        open_tokens(tmp_path / "whole", "heldout")
    with pytest.raises(ConfigError, match="no documents in the split 'heldout'"):
        write("parts", {"train": texts(), "heldout": iter(())}, parts)
    assert read == 121
    assert open_tokens(tmp_path / "parts", "train").tobytes() == expected


def test_older_and_damaged_files(tokenizer, written, tmp_path):
    directory = shutil.copytree(written[1], tmp_path / "text")
    path = directory / "corpus.json"
    summary = json.loads(path.read_text())
    assert (summary["bos_id"], summary["eos_id"], summary["dtype"]) == (_BOS, _EOS, "uint16")
    path.write_text(json.dumps({key: summary[key] for key in ("python", "train", "heldout")}))
    source = open_source(directory, "train", weight=1.0, anywhere=True)
    assert source.bos_id == 0
    assert source.tokens.dtype == np.uint16
    path.write_text('{"bos_id": ')
    with pytest.raises(ConfigError, match="damaged"):
        open_source(directory, "train", weight=1.0, anywhere=True)
    piece = tokenizer.encode(_TEXTS[0]).ids[1]
    for bos_id, eos_id, match in (
        (1, 70, "must be ids of the tokenizer's 70"),
        (-1, 2, "must be ids"),
        (piece, 2, "a text encodes to"),
    ):
        with pytest.raises(ConfigError, match=match):
            write_documents(
                {split: _TEXTS for split in token_files.SPLITS},
                tokenizer,
                tmp_path / "ids",
                unit="documents",
                bos_id=bos_id,
                eos_id=eos_id,
            )


def test_a_large_vocabulary_gets_wider_tokens(tmp_path):
    words = {f"w{i}": i for i in range((1 << 16) + 2)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    texts = {"train": ["w65537"], "heldout": ["w3"]}
    summary = write_documents(
        texts, tokenizer, tmp_path / "text", unit="documents", bos_id=1, eos_id=65536
    )
    assert summary["dtype"] == "uint32"
    source = open_source(tmp_path / "text", "train", weight=1.0, anywhere=False)
    assert source.tokens.tolist() == [1, 65537, 65536]
    assert source.spread(1, 2).tokens.tolist() == [[1, 65537, 65536]]


def test_prompts_of_a_file(tokenizer, tmp_path):
    texts = ["Entry {prompt}", "It has lines", "Entry {prompt}", "lines " * 40, "is </s> no mark"]
    path = str(_jsonl(tmp_path / "own.jsonl", texts, "prompt"))
    with pytest.warns(UserWarning, match=r"1 of 4 prompts .*own\.jsonl.* more than 30 tokens"):
        prompts = prompts_from_files([path], tokenizer, max_tokens=30)
    assert list(prompts) == ["own.jsonl:1", "own.jsonl:2", "own.jsonl:5"]
    for ids in prompts.values():
        assert ids[0] == _BOS
        assert len(ids) <= 30
        assert not {0, _BOS, _EOS} & set(ids[1:])
    assert tokenizer.decode(prompts["own.jsonl:5"]) == texts[4]
    chat = prompts_from_files(
        [path], tokenizer, max_tokens=30, limit=2, template="[INST] {prompt} [/INST]"
    )
    assert list(chat) == list(prompts)[:2]
    assert tokenizer.decode(chat["own.jsonl:1"]) == "[INST] Entry {prompt} [/INST]"
    assert max(map(len, chat.values())) > max(len(prompts[name]) for name in chat)
    other = str(_jsonl(tmp_path / "other.jsonl", texts, "question"))
    assert list(prompts_from_files([other], tokenizer, field="question", max_tokens=500)) == [
        f"other.jsonl:{line}" for line in (1, 2, 4, 5)
    ]
    for options, match in (
        ({"max_tokens": 3}, "4 of 4 prompts .* more than 3 tokens, and no other is left"),
        ({"max_tokens": 0}, "max_tokens=0"),
        ({"max_tokens": 30, "limit": 0}, "limit=0"),
        ({"max_tokens": 30, "field": "text"}, "line 1: no field 'text'"),
        ({"max_tokens": 30, "template": "[INST]"}, r"must hold \{prompt\} once"),
        ({"max_tokens": 30, "template": "<s>{prompt}"}, "the special token '<s>'"),
    ):
        with pytest.raises(ConfigError, match=match):
            prompts_from_files([path], tokenizer, **options)
    (tmp_path / "blank.jsonl").write_text('{"prompt": ""}\n')
    with pytest.raises(ConfigError, match="0 of 0 prompts"):
        prompts_from_files([str(tmp_path / "blank.jsonl")], tokenizer, max_tokens=30)


def test_the_configuration_of_the_published_draft():
    path = ROOT / "configs/distill/llama2_115m.py"
    spec = importlib.util.spec_from_file_location("llama2_115m", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    settings = Settings.from_config(module.get_config())
    for stage, tokens in (("draft_warm_start", 10.5e9), ("draft", 0.33e9)):
        recipe = settings.section(stage).recipe
        assert recipe.steps * recipe.tokens_per_step == pytest.approx(tokens, rel=0.01)
        shape = settings.section(stage).model
        model = dataclasses.replace(shape, bos_id=1, eos_ids=(2,))
        assert model == NAMED_CONFIGS["llama2_115m"]
    shapes = jax.eval_shape(lambda: LlamaModel(model).init_params(jax.random.key(0)))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 116_925_440
    assert settings.responses.top_k is None
    assert settings.responses.eos_ids == ()  # the target's own
    # A window of the last stage always shows a response.
    assert settings.max_prompt_tokens < settings.draft.recipe.window
