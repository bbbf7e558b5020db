"""Tokenizers built from the metadata of GGUF files, against those that the metadata describe."""

import json
import subprocess
import sys

import pytest
from tokenizers import Regex, normalizers, pre_tokenizers

from rsd_jax.errors import CheckpointError, ConfigError
from rsd_jax.models.loading import load_tokenizer
from rsd_jax.text.encoding import decode, encode
from rsd_jax.text.gguf_tokenizer import tokenizer_from_gguf
from rsd_jax.text.prompts import encode_prompts
from tests import ROOT, tiny_tokenizers
from tests.gguf_writing import tokenizer_metadata, write

_TEXT = "It's 1234 apples,\n\n  don't  touch\tthem! "
# The pieces of `_TEXT` that merges never cross, by the split of each known tokenizer.
_PIECES = {
    "gpt-2": ["It", "'s", " 1234", " apples", ",", "\n\n ", " don", "'t", " ", " touch", "\t"],
    "smollm": ["It", "'s", " ", "1", "2", "3", "4", " apples", ",", "\n\n ", " don", "'t", " "],
    "llama-bpe": ["It", "'s", " ", "123", "4", " apples", ",\n\n", " ", " don", "'t", " "],
    "qwen2": ["It", "'s", " ", "1", "2", "3", "4", " apples", ",\n\n", " ", " don", "'t", " "],
}
_TEXTS = [
    _TEXT,
    "",
    "  leading and trailing  ",
    "東京 ü e\u0301 🙂",
    "<|im_start|>user\nHello<|im_end|>\n",
    "CAN'T 3.14159 x=10**6\r\n",
]
_CHAT = [
    {"role": "system", "content": "answer briefly."},
    {"role": "user", "content": "Hello 42 <|im_end|> there!"},
]


def _described(pre):
    """A tokenizer with the split of a published one, whose ids are known without a file."""
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    made = tiny_tokenizers.chatml(unk_token="<|endoftext|>")
    inner = made.backend_tokenizer
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pre != "qwen2")
    if pre == "smollm":
        digits = pre_tokenizers.Digits(individual_digits=True)
        inner.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level])
    elif pre == "qwen2":
        split = pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), "isolated")
        inner.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
        inner.normalizer = normalizers.NFC()
    return made


def _metadata(pre="gpt-2"):
    return tokenizer_metadata(tiny_tokenizers.chatml(), pre)


@pytest.mark.parametrize("pre", ["gpt-2", "smollm", "qwen2"])
def test_ids_are_those_of_the_tokenizer_that_was_converted(pre):
    expected = _described(pre)
    ids = {"tokenizer.ggml.eos_token_id": 2, "tokenizer.ggml.unknown_token_id": 0}
    ours = tokenizer_from_gguf(tokenizer_metadata(expected, pre, **ids), "x.gguf")
    for text in _TEXTS:
        for special in (False, True):
            wanted = encode(expected, text, parse_special=special)
            assert encode(ours, text, parse_special=special) == wanted
        assert decode(ours, wanted) == decode(expected, wanted)
    assert encode_prompts(ours, [_CHAT]) == encode_prompts(expected, [_CHAT])
    assert ours.eos_token == "<|im_end|>"
    assert ours.bos_token is None
    assert len(ours) == len(expected)


@pytest.mark.parametrize("pre", sorted(_PIECES))
def test_texts_are_split_as_the_makers_do(pre):
    inner = tokenizer_from_gguf(_metadata(pre), "x.gguf").backend_tokenizer
    places = [place for _, place in inner.pre_tokenizer.pre_tokenize_str(_TEXT)]
    pieces = [_TEXT[start:end] for start, end in places]
    assert "".join(pieces) == _TEXT
    assert pieces[: len(_PIECES[pre])] == _PIECES[pre]


def test_only_llama_3_takes_a_piece_that_is_a_token_without_merges():
    found = {}
    for pre in ("gpt-2", "llama-bpe"):
        metadata = _metadata(pre)
        tokens = (*metadata["tokenizer.ggml.tokens"], "zqz")
        kinds = (*metadata["tokenizer.ggml.token_type"], 1)
        metadata |= {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": kinds}
        ours = tokenizer_from_gguf(metadata, "x.gguf")
        found[pre] = encode(ours, "zqz", add_special=False)
    assert len(found["gpt-2"]) == 3
    assert found["llama-bpe"] == [len(tokens) - 1]


@pytest.mark.parametrize(
    ("pre", "flag", "expected"),
    [
        ("gpt-2", None, False),
        ("gpt-2", True, True),
        ("llama-bpe", None, True),
        ("llama-bpe", False, False),
    ],
)
def test_bos_is_added_where_the_metadata_say_so(pre, flag, expected):
    metadata = _metadata(pre) | {"tokenizer.ggml.bos_token_id": 0}
    if flag is not None:
        metadata["tokenizer.ggml.add_bos_token"] = flag
    ours = tokenizer_from_gguf(metadata, "x.gguf")
    bare = encode(ours, "Hello", add_special=False)
    assert encode(ours, "Hello") == [0] * expected + bare
    assert ours.bos_token == "<|endoftext|>"
    text = "<|endoftext|>Hello"
    assert encode(ours, text, parse_special=True) == [0, *bare]


def test_user_defined_tokens_are_read_in_every_text():
    metadata = _metadata()
    kinds = list(metadata["tokenizer.ggml.token_type"])
    kinds[1] = 4
    ours = tokenizer_from_gguf(metadata | {"tokenizer.ggml.token_type": kinds}, "x.gguf")
    assert 1 in encode(ours, "a<|im_start|>b")
    assert 2 not in encode(ours, "a<|im_end|>b")


@pytest.mark.parametrize("pre", [None, "default", "deepseek-llm"])
def test_an_unknown_split_is_an_error_that_says_what_to_give(pre):
    metadata = {k: v for k, v in _metadata().items() if k != "tokenizer.ggml.pre"}
    if pre is not None:
        metadata["tokenizer.ggml.pre"] = pre
    with pytest.raises(ConfigError, match=rf"x\.gguf.*pre={pre!r}.*load_tokenizer\(DIR\)"):
        tokenizer_from_gguf(metadata, "x.gguf")


def test_damaged_vocabularies_are_refused():
    twice = ("a", "a", "b")
    with pytest.raises(CheckpointError, match="3 tokens, 2 of them different"):
        tokenizer_from_gguf(_metadata() | {"tokenizer.ggml.tokens": twice}, "x.gguf")
    with pytest.raises(CheckpointError, match="0 merges"):
        tokenizer_from_gguf(_metadata() | {"tokenizer.ggml.merges": ()}, "x.gguf")
    with pytest.raises(CheckpointError, match="cannot be used"):
        tokenizer_from_gguf(_metadata() | {"tokenizer.ggml.merges": ("zz qq",)}, "x.gguf")
    with pytest.raises(CheckpointError, match="special token 9999"):
        tokenizer_from_gguf(_metadata() | {"tokenizer.ggml.eos_token_id": 9999}, "x.gguf")


def test_no_torch_is_needed():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from tests.text.test_gguf_tokenizer import _metadata\n"
        "from rsd_jax.text.gguf_tokenizer import tokenizer_from_gguf\n"
        "print(tokenizer_from_gguf(_metadata(), 'x.gguf')('Hello').input_ids)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr


@pytest.fixture(scope="module", params=["prefixed", "plain"])
def trained(request):
    """Metadata of a tokenizer that the library sentencepiece trained, and what the library says.

    "prefixed" puts a space in front of a text. The library is no requirement; its answers, [text,
    ids, decoded text] each, are on file.
    """
    path = ROOT / "tests/fixtures/sentencepiece_0.2.3.json"
    content = json.loads(path.read_text(encoding="utf-8"))[request.param]
    tokens, scores, types = zip(*content["pieces"], strict=True)
    metadata = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.token_type": types,
    }
    if request.param == "plain":
        metadata["tokenizer.ggml.add_space_prefix"] = False
    return metadata, content["texts"]


def test_sentencepiece_ids_and_texts_are_those_of_the_library(trained, tmp_path):
    """Spaces, bytes of unknown characters, and names of special tokens, which are text."""
    metadata, texts = trained
    path = write(tmp_path / "x.gguf", metadata)
    ours = load_tokenizer(path)
    assert len(texts) > 90
    for text, ids, decoded in texts:
        assert encode(ours, text, add_special=False) == ids, text
        assert decode(ours, ids) == decoded
    assert encode(ours, "Hello") == [1, *encode(ours, "Hello", add_special=False)]
    assert (ours.bos_token, ours.eos_token, ours.unk_token) == ("<s>", "</s>", "<unk>")


def test_sentencepiece_ids_are_those_of_transformers(trained):
    """Of texts that begin with a space, transformers puts no other space in front."""
    from transformers import LlamaTokenizer

    metadata, texts = trained
    ours = tokenizer_from_gguf(metadata, "x.gguf")
    model = json.loads(ours.backend_tokenizer.to_str())["model"]
    theirs = LlamaTokenizer(
        model["vocab"],
        [tuple(merge) for merge in model["merges"]],
        legacy=True,
        add_prefix_space="tokenizer.ggml.add_space_prefix" not in metadata,
    )
    for text in (text for text, *_ in texts if text[:1] not in (" ", "▁")):
        assert encode(ours, text, add_special=False) == encode(theirs, text, add_special=False)
    turns = "<s>Hello there</s><s>the dog\n</s>"
    assert encode(ours, turns, parse_special=True) == encode(theirs, turns, parse_special=True)


def test_ends_are_added_where_the_metadata_of_sentencepiece_say_so(trained):
    metadata, _ = trained
    bare = encode(tokenizer_from_gguf(metadata, "x.gguf"), "Hello", add_special=False)
    flags = {"tokenizer.ggml.add_bos_token": False, "tokenizer.ggml.add_eos_token": True}
    ids = {"tokenizer.ggml.bos_token_id": 2, "tokenizer.ggml.eos_token_id": 1}
    assert encode(tokenizer_from_gguf(metadata | flags, "x.gguf"), "Hello") == [*bare, 2]
    assert encode(tokenizer_from_gguf(metadata | ids, "x.gguf"), "Hello") == [2, *bare]


def test_special_tokens_of_sentencepiece_are_never_made_of_pieces(trained):
    """Even where the pieces are there, the name of a special token or a byte is text."""
    metadata, _ = trained
    tokens = list(metadata["tokenizer.ggml.tokens"])
    added = [*(set("</s>0xA") - set(tokens)), "</", "s>", "<0", "A>", "0A>", "x0A>"]
    changed = {
        "tokens": (*tokens, *added),
        "scores": (*metadata["tokenizer.ggml.scores"], *(0.0 for _ in added)),
        "token_type": (*metadata["tokenizer.ggml.token_type"], *(1 for _ in added)),
    }
    metadata = metadata | {f"tokenizer.ggml.{key}": value for key, value in changed.items()}
    ours = tokenizer_from_gguf(metadata, "x.gguf")
    for text, pieces in (("</s>", ("</", "s>")), ("<0x0A>", ("<0", "x0A>"))):
        ids = encode(ours, text, add_special=False)
        assert [ours.convert_ids_to_tokens(i) for i in ids][-2:] == list(pieces)
    assert encode(ours, "</s>", parse_special=True) == [1, 2]


def test_other_sentencepiece_metadata_are_refused(trained):
    metadata, _ = trained

    def refused(error, message, **changes):
        changed = {f"tokenizer.ggml.{key}": value for key, value in changes.items()}
        with pytest.raises(error, match=message):
            tokenizer_from_gguf(metadata | changed, "x.gguf")

    refused(ConfigError, "precompiled_charsmap.*not supp.*DIR", precompiled_charsmap=(1, 2))
    refused(ConfigError, "remove_extra_whitespaces.*DIR", remove_extra_whitespaces=True)
    refused(CheckpointError, "0 scores.*DIR", scores=())
    refused(CheckpointError, "460 tokens, 460 scores and 1 types.*DIR", token_type=(1,))
    refused(CheckpointError, "special token 460 of 460", bos_token_id=460)
    refused(ConfigError, "model='t5'; only 'gpt2'", model="t5")
