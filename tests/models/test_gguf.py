"""Llamas and Qwens in GGUF files, against the same weights in Hugging Face's format."""

import dataclasses
import sys

import gguf
import jax
import numpy as np
import pytest

import rsd_jax
from rsd_jax.errors import CheckpointError, ConfigError
from rsd_jax.models.checkpoint import load_params, read_config, save_model
from rsd_jax.models.config import LlamaConfig, RopeConfig
from rsd_jax.models.llama import LlamaModel
from rsd_jax.models.loading import load_tokenizer
from rsd_jax.models.mistral import MistralConfig
from rsd_jax.models.qwen import Qwen2Config, Qwen3Config
from tests import tiny_tokenizers
from tests.gguf_writing import (
    F32,
    llama3_divisors,
    llama_metadata,
    llama_tensors,
    tokenizer_metadata,
    write,
)
from tests.parity import ATOL, hf_logits, our_logits, random_params

_CONFIG = LlamaConfig(
    vocab_size=40,
    hidden_size=32,
    intermediate_size=64,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    max_positions=64,
    bos_id=1,
    eos_ids=(2, 5),
)
_LLAMA3 = RopeConfig(
    kind="llama3",
    theta=500000.0,
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position=8192,
)
_VARIANTS = {
    "plain": {},
    "tied": {"tied_embeddings": True},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "wide heads": {"head_dim": 16},
    "linear": {"rope": RopeConfig(kind="linear", factor=4.0)},
    "llama3": {"rope": _LLAMA3},
    "no ends": {"bos_id": None, "eos_ids": ()},
}
_TOKENS = np.random.default_rng(0).integers(0, 40, (2, 12))
_Q = "blk.1.attn_q.weight"
_FREQUENCIES = "rope_freqs.weight"


def _both(root, config):
    """The same model as a directory and as a GGUF file; its metadata and tensors."""
    params = random_params(LlamaModel(config))
    save_model(root / "hf", config, params, dtype="float32")
    tensors = llama_tensors(root / "hf", config)
    if config.rope.kind == "llama3":
        tensors[_FREQUENCIES] = llama3_divisors(config)
    return root / "hf", llama_metadata(config), tensors


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Directory, metadata and tensors of the plain model; not to be changed."""
    return _both(tmp_path_factory.mktemp("plain"), _CONFIG)


@pytest.mark.parametrize("variant", _VARIANTS)
def test_a_file_is_the_model_that_was_converted(tmp_path, variant):
    config = dataclasses.replace(_CONFIG, **_VARIANTS[variant])
    directory, metadata, tensors = _both(tmp_path, config)
    path = write(tmp_path / "x.gguf", metadata, tensors)
    assert read_config(path) == config
    ours, expected = (load_params(p, config, dtype="float32") for p in (path, directory))
    jax.tree.map(np.testing.assert_array_equal, ours, expected)


def test_logits_are_those_of_the_directory_in_transformers(plain, tmp_path):
    directory, metadata, tensors = plain
    path = write(tmp_path / "x.gguf", metadata, tensors)
    ours, theirs = our_logits(path, _TOKENS), hf_logits(directory, _TOKENS)
    np.testing.assert_allclose(ours, theirs, atol=ATOL, rtol=0)
    model = rsd_jax.load_model(path)
    assert model.model.config == _CONFIG


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_1"])
def test_quantised_rows_are_those_of_the_library(plain, tmp_path, kind):
    """Rows of q are put in order after they became floats; blocks lie within rows."""
    _, metadata, tensors = plain
    kinds = {name: gguf.GGMLQuantizationType[kind] for name in (_Q, "token_embd.weight")}
    path = write(tmp_path / "x.gguf", metadata, tensors, kinds=kinds)
    rounded = {
        name: gguf.quants.dequantize(gguf.quants.quantize(tensors[name], k), k)
        for name, k in kinds.items()
    }
    reference = write(tmp_path / "floats.gguf", metadata, tensors | rounded)
    ours, expected = (load_params(p, _CONFIG, dtype="float32") for p in (path, reference))
    jax.tree.map(np.testing.assert_array_equal, ours, expected)


def test_optional_keys_take_the_defaults_of_llama_cpp(tmp_path):
    config = dataclasses.replace(_CONFIG, num_kv_heads=4)
    _, metadata, tensors = _both(tmp_path, config)
    optional = ("head_count_kv", "freq_base", "dimension_count", "key_length", "value_length")
    kept = {k: v for k, v in metadata.items() if not k.endswith((*optional, "vocab_size"))}
    assert read_config(write(tmp_path / "x.gguf", kept, tensors)) == config


_BAD = {
    "llama.expert_count": (8, r"llama\.expert_count=8"),
    "llama.attention.sliding_window": ([16, 8], r"sliding_window=\(16, 8\)"),
    "llama.attention.causal": (False, "causal=False"),
    "llama.logit_scale": (2.0, "logit_scale"),
    "llama.rope.dimension_count": (4, "dimension_count=4"),
    "llama.attention.value_length": (4, "value_length=4"),
    "llama.feed_forward_length": ([64, 32], "feed_forward_length"),
    "llama.attention.head_count_kv": (0, "head_count_kv=0"),
    "general.type": ("adapter", "adapter"),
}


@pytest.mark.parametrize("key", _BAD)
def test_what_is_not_implemented_is_refused_by_its_key(plain, tmp_path, key):
    _, metadata, tensors = plain
    value, message = _BAD[key]
    path = write(tmp_path / "x.gguf", metadata | {key: value}, tensors)
    with pytest.raises(ConfigError, match=rf"x\.gguf.*{message}"):
        read_config(path)


def test_scaled_rotations_are_applied_or_refused(plain, tmp_path):
    _, metadata, tensors = plain

    def refused(name, keys, divisors, message):
        extra = {} if divisors is None else {_FREQUENCIES: np.asarray(divisors, np.float32)}
        path = write(tmp_path / f"{name}.gguf", metadata | keys, tensors | extra)
        with pytest.raises(ConfigError, match=message):
            read_config(path)

    linear = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 2.0}
    yarn = linear | {"llama.rope.scaling.type": "yarn"}
    refused("yarn", yarn, None, "rope_type='yarn'")
    refused("both", linear, [1, 1, 1, 2], "only one of them")
    refused("other", {}, [1, 2, 3, 4], "only Llama 3's")
    refused("narrow", {}, [1, 8], "only Llama 3's")
    ones = write(tmp_path / "ones.gguf", metadata, tensors | {_FREQUENCIES: np.ones(4, np.float32)})
    assert read_config(ones) == _CONFIG


def test_other_architectures_and_missing_keys_are_named(plain, tmp_path):
    _, metadata, tensors = plain
    other = write(tmp_path / "other.gguf", metadata, tensors, architecture="gemma2")
    with pytest.raises(ConfigError, match=r"other\.gguf.*'gemma2' is not supported"):
        rsd_jax.load_model(other)
    fewer = {k: v for k, v in metadata.items() if k != "llama.block_count"}
    with pytest.raises(ConfigError, match=r"lack llama\.block_count"):
        rsd_jax.load_model(write(tmp_path / "fewer.gguf", fewer, tensors))
    with pytest.raises(ConfigError, match=r"lacks the tensor token_embd\.weight"):
        rsd_jax.load_model(write(tmp_path / "vocabulary.gguf", metadata))


@pytest.mark.parametrize(("window", "positions"), [(0, 64), (16, 16), (128, 64)])
def test_positions_are_limited_to_a_window(plain, tmp_path, window, positions):
    _, metadata, tensors = plain
    keys = {"llama.attention.sliding_window": window}
    path = write(tmp_path / "x.gguf", metadata | keys, tensors)
    assert read_config(path) == dataclasses.replace(_CONFIG, max_positions=positions)


def _family(kind, **changes):
    return kind(**dataclasses.asdict(_CONFIG) | {"rope": RopeConfig(theta=500.0)} | changes)


_FAMILIES = {
    "qwen2": _family(Qwen2Config),
    "qwen2 tied, without ends": _family(Qwen2Config, tied_embeddings=True, bos_id=None),
    "qwen3": _family(Qwen3Config),
    "qwen3 with wide heads and biases": _family(Qwen3Config, head_dim=24, attention_bias=True),
}


@pytest.mark.parametrize("name", _FAMILIES)
def test_qwens_are_the_models_that_were_converted(tmp_path, name):
    """Logits are those of transformers on the directory."""
    config = _FAMILIES[name]
    directory, metadata, tensors = _both(tmp_path, config)
    path = write(tmp_path / "x.gguf", metadata, tensors, architecture=config.model_type)
    assert read_config(path) == config
    ours, expected = (load_params(p, config, dtype="float32") for p in (path, directory))
    jax.tree.map(np.testing.assert_array_equal, ours, expected)
    logits = our_logits(path, _TOKENS), hf_logits(directory, _TOKENS)
    np.testing.assert_allclose(*logits, atol=ATOL, rtol=0)


def test_a_qwen3_without_a_width_of_heads_has_that_of_llama_cpp(tmp_path):
    """Not the 128 of transformers' class."""
    config = _FAMILIES["qwen3"]
    _, metadata, tensors = _both(tmp_path, config)
    widths = ("key_length", "value_length", "dimension_count")
    kept = {k: v for k, v in metadata.items() if not k.endswith(widths)}
    assert read_config(write(tmp_path / "x.gguf", kept, tensors, architecture="qwen3")) == config


def test_a_mistral_is_written_as_a_llama(tmp_path):
    config = _family(MistralConfig)
    directory, metadata, tensors = _both(tmp_path, config)
    path = write(tmp_path / "x.gguf", metadata, tensors)
    assert read_config(path).model_type == "llama"
    np.testing.assert_allclose(
        our_logits(path, _TOKENS), hf_logits(directory, _TOKENS), atol=ATOL, rtol=0
    )


def test_missing_and_unexpected_tensors_are_named(plain, tmp_path):
    _, metadata, tensors = plain
    fewer = {k: v for k, v in tensors.items() if k != _Q}
    path = write(tmp_path / "fewer.gguf", metadata, fewer)
    with pytest.raises(CheckpointError, match=r"fewer\.gguf lacks.*layers\.1\.self_attn\.q_proj"):
        rsd_jax.load_model(path)
    more = tensors | {"blk.0.attn_q_norm.weight": np.ones(8, np.float32)}
    with pytest.raises(CheckpointError, match=r"holds blk\.0\.attn_q_norm\.weight"):
        rsd_jax.load_model(write(tmp_path / "more.gguf", metadata, more))
    other = tensors | {_Q: tensors[_Q][:16]}
    with pytest.raises(CheckpointError, match=r"q_proj\.weight in .*has shape \[16, 32\]"):
        rsd_jax.load_model(write(tmp_path / "other.gguf", metadata, other))


def test_formats_that_cannot_be_read_are_named_with_their_tensor(plain, tmp_path):
    _, metadata, tensors = plain
    whole = tensors | {_Q: tensors[_Q].astype(np.int32)}
    with pytest.raises(CheckpointError, match=rf"{_Q} in .*I32"):
        rsd_jax.load_model(write(tmp_path / "whole.gguf", metadata, whole))
    path = write(tmp_path / "unknown.gguf", metadata, tensors)
    content, name = bytearray(path.read_bytes()), _Q.encode()
    start = content.index(name) + len(name) + 4 + 2 * 8  # behind the name, the rank and the shape
    assert content[start : start + 4] == bytes([F32, 0, 0, 0])
    content[start] = 250
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{_Q} in .*unknown format 250"):
        rsd_jax.load_model(path)


def test_truncated_files_say_where(plain, tmp_path):
    _, metadata, tensors = plain
    content = write(tmp_path / "x.gguf", metadata, tensors).read_bytes()
    path = tmp_path / "cut.gguf"
    path.write_bytes(content[:-100])
    last = list(tensors)[-1]
    with pytest.raises(CheckpointError, match=rf"truncated: the tensor {last} in .*cut\.gguf"):
        rsd_jax.load_model(path)
    for size in (0, 3, 20, 100, 400):
        path.write_bytes(content[:size])
        with pytest.raises(CheckpointError, match=r"cut\.gguf is truncated or not a GGUF"):
            rsd_jax.load_model(path)
    path.write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(CheckpointError, match="git lfs pull"):
        rsd_jax.load_model(path)


def test_paths_that_are_not_files_are_named(plain, tmp_path):
    _, metadata, tensors = plain
    with pytest.raises(CheckpointError, match=r"no\.gguf does not exist"):
        rsd_jax.load_model(tmp_path / "no.gguf")
    write(tmp_path / "x.gguf", metadata, tensors)
    with pytest.raises(CheckpointError, match=r"holds the GGUF files \['x\.gguf'\]"):
        rsd_jax.load_model(tmp_path)
    parts = write(tmp_path / "part.gguf", metadata | {"split.count": 2}, tensors)
    with pytest.raises(CheckpointError, match="one of 2 parts"):
        rsd_jax.load_model(parts)


def test_without_the_library_one_error_names_the_extra(plain, tmp_path, monkeypatch):
    _, metadata, tensors = plain
    path = write(tmp_path / "x.gguf", metadata, tensors)
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ConfigError, match=r"rsd_jax\[gguf\]"):
        rsd_jax.load_model(path)


def test_model_and_tokenizer_of_one_file_answer_as_the_directory(tmp_path):
    """A chat prompt, greedily, with the ends that the metadata name."""
    tokenizer = tiny_tokenizers.chatml()
    config = dataclasses.replace(_CONFIG, vocab_size=len(tokenizer), bos_id=None, eos_ids=(2,))
    directory, metadata, tensors = _both(tmp_path, config)
    described = tokenizer_metadata(tokenizer, "gpt-2")
    path = write(tmp_path / "x.gguf", metadata | described, tensors)
    chat = [[{"role": "user", "content": "Hello <|im_end|> there"}]]
    answers = []
    for source, read in ((path, load_tokenizer(path)), (directory, tokenizer)):
        pair = rsd_jax.LoadedPair(rsd_jax.load_model(source), None, read)
        assert pair.eos_ids == (2,)
        prompts = rsd_jax.encode_prompts(read, chat)
        method = rsd_jax.build_method("ar")
        result = rsd_jax.generate(method, pair.target, None, prompts, max_new_tokens=8)
        answers.append((prompts, [list(map(int, row)) for row in result.tokens]))
    assert answers[0] == answers[1]
